package heroku_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema is Heroku's own of app.json, see testdata/README.md.
func schema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("testdata/app-json.schema.json")
	must(t, err)
	defer f.Close()
	document, err := jsonschema.UnmarshalJSON(f)
	must(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	must(t, c.AddResource("app.json", document))
	s, err := c.Compile("app.json")
	must(t, err)
	return s
}

// manifest is what the tests read of app.json.
type manifest struct {
	Description string
	SuccessURL  string `json:"success_url"`
	Env         map[string]struct{ Description, Value, Generator string }
	Formation   map[string]struct{ Quantity int }
	Buildpacks  []struct{ URL string }
	Addons      []string
}

func readManifest(t *testing.T) (text []byte, m manifest) {
	t.Helper()
	// Heroku reads it at the root of the repository, from what is pushed.
	text, err := os.ReadFile(filepath.Join(slug.root, "app.json"))
	must(t, err)
	must(t, json.Unmarshal(text, &m))
	return text, m
}

func TestAppJSONIsValid(t *testing.T) {
	text, m := readManifest(t)
	s := schema(t)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	must(t, err)
	if err := s.Validate(document); err != nil {
		t.Errorf("%#v", err)
	}
	if n := len([]rune(m.Description)); n > 140 {
		t.Errorf("the description has %d characters; Heroku shows 140", n)
	}
	for _, wrong := range []string{`{"nmae":"drain"}`, `{"env":{"A":{"vaule":"1"}}}`, `{"env":{"A":{"generator":"random"}}}`, `{"formation":{"web":{"size":"basic"}}}`,
		`{"stack":"cedar-14"}`, `{"website":"no url"}`, `{"addons":[{"name":"x"}]}`} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(wrong))
		must(t, err)
		if s.Validate(document) == nil {
			t.Errorf("takes %s", wrong)
		}
	}
}

// Its values are settings that drain takes, and what it starts is in the Procfile.
func TestAppJSONIsWhatDrainTakes(t *testing.T) {
	_, m := readManifest(t)
	d := exec.Command(filepath.Join(slug.bin, "drain"))
	d.Env = []string{"DYNO=web.1", "PORT=1"}
	for name, v := range m.Env {
		value := v.Value
		if v.Generator == "secret" {
			value = buttonSecret
		}
		if value == "" || v.Description == "" {
			t.Errorf("%s has no value, or no description", name)
		}
		d.Env = append(d.Env, name+"="+value)
	}
	// All that it lacks is Kafka, which the add-on brings.
	out, _ := d.CombinedOutput()
	if d.ProcessState.ExitCode() != 2 || !strings.HasPrefix(string(out), "drain: KAFKA_URL: not set") {
		t.Errorf("with these settings it says %q", out)
	}
	for name := range m.Env {
		if help := helpOf(t, "drain"); !strings.Contains(help, name) && !strings.Contains(help, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-"))) {
			t.Errorf("drain has no setting %s", name)
		}
	}
	for name := range m.Formation {
		if _, ok := procfile(t)[name]; !ok {
			t.Errorf("the Procfile has no %s", name)
		}
	}
	if !slices.Contains(m.Addons, "heroku-kafka:basic-0") || len(m.Buildpacks) != 1 || m.Buildpacks[0].URL != "heroku/go" || m.SuccessURL != "/readyz" {
		t.Errorf("%+v", m)
	}
}
