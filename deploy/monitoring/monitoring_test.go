// Package monitoring_test holds alerts.yaml and dashboard.json against the metrics of a
// running drain and a running metrics, and has promtool read them.
package monitoring_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.yaml.in/yaml/v3"

	"drain/trial/check"
	"drain/trial/journal"
)

var must = check.Must

// expression is one of PromQL, with the texts that are filled with its result.
type expression struct {
	name, expr string
	texts      []string
}

type alerts struct {
	Groups []struct {
		Rules []struct {
			Alert, Expr         string
			Labels, Annotations map[string]string
		}
	}
}

func readAlerts(t *testing.T) (found []expression) {
	t.Helper()
	text, err := os.ReadFile("alerts.yaml")
	must(t, err)
	var a alerts
	must(t, yaml.Unmarshal(text, &a))
	for _, g := range a.Groups {
		for _, r := range g.Rules {
			if !slices.Contains([]string{"page", "warn", "info"}, r.Labels["severity"]) || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
				t.Errorf("%s has no severity, summary or description: %v %v", r.Alert, r.Labels, r.Annotations)
			}
			found = append(found, expression{r.Alert, r.Expr, slices.Collect(maps.Values(r.Annotations))})
		}
	}
	if len(found) == 0 {
		t.Fatal("there are no alerts")
	}
	return found
}

type dashboard struct {
	Panels []struct {
		ID         int
		Title      string
		Datasource struct{ UID string }
		GridPos    struct{ H, W, X, Y int }
		Targets    []struct {
			Expr, LegendFormat, RefID string
			Datasource                struct{ UID string }
		}
	}
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
}

func readDashboard(t *testing.T) (d dashboard, found []expression) {
	t.Helper()
	text, err := os.ReadFile("dashboard.json")
	must(t, err)
	must(t, json.Unmarshal(text, &d))
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			found = append(found, expression{p.Title, target.Expr, []string{target.LegendFormat}})
		}
	}
	for _, v := range d.Templating.List {
		if v.Type == "query" {
			// label_values(METRIC, LABEL)
			inner := strings.TrimSuffix(strings.TrimPrefix(v.Query, "label_values("), ")")
			metric, label, _ := strings.Cut(inner, ", ")
			found = append(found, expression{"$" + v.Name, "sum by (" + label + ") (" + metric + ")", nil})
		}
	}
	return d, found
}

// series are the metrics of a drain and a metrics: of each name, what values each label has.
type series map[string]map[string][]string

// ofScrape adds what Prometheus itself gives to a target's metrics.
var ofScrape = []string{"instance", "job"}

// scrape starts drain with a broker of its own and metrics, posts a line, and reads /metrics of both
// when it is counted.
func scrape(t *testing.T) series {
	t.Helper()
	programs := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", programs, "drain/cmd/drain", "drain/cmd/metrics").CombinedOutput(); err != nil {
		t.Fatalf("build drain and metrics: %v\n%s", err, out)
	}
	defer http.DefaultClient.CloseIdleConnections()
	start := func(name, ready string, env ...string) (at []string) {
		cmd := exec.Command(filepath.Join(programs, name))
		cmd.Env = append(env, "LISTEN=127.0.0.1:0")
		log, ended := new(journal.Journal), make(chan struct{})
		cmd.Stderr = log
		must(t, cmd.Start())
		go func() {
			_ = cmd.Wait()
			close(ended)
		}()
		t.Cleanup(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(20 * time.Second):
				_ = cmd.Process.Kill()
				t.Errorf("%s does not stop", name)
			}
		})
		eventually(t, func() error {
			if !log.Says(ready) {
				return fmt.Errorf("%s is not ready:\n%s", name, log)
			}
			return nil
		})
		return regexp.MustCompile(` listen=(\S+) kafka=(\S+)(?: .* admin=(\S+))?`).FindStringSubmatch(log.String())
	}
	drain := start("drain", "Kafka is ready", "ADMIN_LISTEN=127.0.0.1:0", "BROKER_LISTEN=127.0.0.1:0", "DATA_DIR="+t.TempDir(), "LOGS_TOPIC=logs", "SYSLOG_LISTEN=127.0.0.1:0")
	metrics := start("metrics", "takes part in the group", "KAFKA_URL="+drain[2])
	post, err := http.Post("http://"+drain[1]+"/logs", "", strings.NewReader("2026-01-01T12:00:00.000000+00:00 heroku[router]: at=info method=GET path=\"/\" status=200\n"))
	must(t, err)
	post.Body.Close()
	if post.StatusCode != 200 {
		t.Fatalf("the line is answered %d", post.StatusCode)
	}
	found := make(series)
	eventually(t, func() error {
		text := get(t, metrics[1])
		if !strings.Contains(text, `drain_metrics_records_total{result="counted"} 1`) {
			return fmt.Errorf("the line is not counted:\n%s", text)
		}
		found.read(t, text)
		return nil
	})
	found.read(t, get(t, drain[3]))
	return found
}

func get(t *testing.T, at string) (text string) {
	t.Helper()
	res, err := http.Get("http://" + at + "/metrics")
	must(t, err)
	defer res.Body.Close()
	all, err := io.ReadAll(res.Body)
	must(t, err)
	return string(all)
}

func eventually(t *testing.T, ok func() error) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// read adds the metrics of a text.
func (s series) read(t *testing.T, text string) {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	must(t, err)
	for name, family := range families {
		names := []string{name}
		if family.GetType() == dto.MetricType_HISTOGRAM {
			names = []string{name + "_bucket", name + "_sum", name + "_count"}
		}
		for _, name := range names {
			labels := make(map[string][]string)
			for _, m := range family.Metric {
				for _, l := range m.Label {
					labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
				}
			}
			if strings.HasSuffix(name, "_bucket") {
				labels["le"] = nil
			}
			s[name] = labels
		}
	}
}

var (
	word     = regexp.MustCompile(`[a-zA-Z_][a-zA-Z0-9_]*`)
	quoted   = regexp.MustCompile(`"[^"]*"`)
	braces   = regexp.MustCompile(`([a-z0-9_]+)\{([^}]*)\}`)
	grouping = regexp.MustCompile(`\bby \(([^)]*)\)`)
	// The variables are of one program each: a panel shows figures of one.
	ofInstances = regexp.MustCompile(`instance=~"\$(instance|metrics)"`)
	filled      = regexp.MustCompile(`\{\{ *(?:\$labels\.)?([a-z_]+)`)
	// What stands in our expressions beside metrics and labels.
	ofPromQL = []string{"sum", "by", "rate", "increase", "histogram_quantile", "deriv", "and", "unless", "__rate_interval", "m", "h", "e6"}
)

// unknown is everything in an expression that neither has: metrics, labels, values.
func (s series) unknown(e expression) (problems []string) {
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	labels := slices.Clone(ofScrape)
	metrics := 0
	bare := quoted.ReplaceAllString(grouping.ReplaceAllString(e.expr, ""), "")
	for _, name := range word.FindAllString(braces.ReplaceAllString(bare, "$1"), -1) {
		of, ok := s[name]
		switch {
		case ok || name == "up":
			metrics++
			labels = append(labels, slices.Collect(maps.Keys(of))...)
		case !slices.Contains(ofPromQL, name):
			problem("no metric is called %s", name)
		}
	}
	if metrics == 0 {
		problem("there is no metric in it")
	}
	for _, m := range braces.FindAllStringSubmatch(e.expr, -1) {
		for matcher := range strings.SplitSeq(m[2], ",") {
			label, value, exact := strings.Cut(matcher, "=")
			values, has := s[m[1]][label]
			switch value, _ = strings.CutPrefix(value, "~"); {
			case slices.Contains(ofScrape, label):
			case !has:
				problem("%s has no label %s", m[1], label)
			case !exact:
				problem("%s is compared otherwise than with =", label)
			default:
				for one := range strings.SplitSeq(strings.Trim(value, `"`), "|") { // the only form of =~ in use
					if !slices.Contains(values, one) {
						problem("%s is never %s, of %s", label, one, values)
					}
				}
			}
		}
	}
	if groups := grouping.FindAllStringSubmatch(e.expr, -1); groups != nil {
		var by []string
		for _, g := range groups {
			for label := range strings.SplitSeq(g[1], ",") {
				if label = strings.TrimSpace(label); !slices.Contains(labels, label) {
					problem("nothing in it has the label %s", label)
				}
				by = append(by, label)
			}
		}
		labels = by
	}
	for _, text := range e.texts {
		for _, name := range filled.FindAllStringSubmatch(text, -1) {
			if !slices.Contains(labels, name[1]) {
				problem("%q wants the label %s, which it has not", text, name[1])
			}
		}
	}
	return problems
}

func TestEveryMetricIsThere(t *testing.T) {
	s := scrape(t)
	_, shown := readDashboard(t)
	for _, e := range append(readAlerts(t), shown...) {
		for _, problem := range s.unknown(e) {
			t.Errorf("%s: %s: %s", e.name, problem, e.expr)
		}
	}
	// The check itself would see what is wrong.
	for _, e := range []expression{
		{"", `rate(drain_frame_total[5m])`, nil}, {"", `drain_frames_total{results="refused"}`, nil}, {"", `drain_frames_total{result="refuse"}`, nil}, {"", `drain_frames_total{result=~"refused|refuse"}`, nil},
		{"", `sum by (codes) (drain_requests_total)`, nil}, {"", `sum by (code) (drain_requests_total)`, []string{"{{result}}"}}, {"", `drain_ack_seconds > 1`, nil},
		{"", `rate(drain_metrics_record_total[5m])`, nil}, {"", `drain_metrics_records_total{result="none"}`, nil}, {"", `sum by (partitions) (drain_consumer_lag_records)`, nil},
		{"", `sum(1)`, nil}, {"", `up == 0`, []string{"{{ $labels.topic }}"}},
	} {
		if len(s.unknown(e)) == 0 {
			t.Errorf("finds nothing wrong with %s %s", e.expr, e.texts)
		}
	}
}

func TestDashboardHoldsTogether(t *testing.T) {
	d, _ := readDashboard(t)
	ids, squares := make(map[int]bool), make(map[[2]int]string)
	for _, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %q: id %d, datasource %q, %d targets", p.Title, p.ID, p.Datasource.UID, len(p.Targets))
		}
		ids[p.ID] = true
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if refs[target.RefID] || target.Datasource.UID != "${datasource}" || target.LegendFormat == "" || !ofInstances.MatchString(target.Expr) {
				t.Errorf("panel %q: %+v", p.Title, target)
			}
			refs[target.RefID] = true
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if squares[at] != "" || at[0] >= 24 {
					t.Fatalf("%q lies on %q, or outside", p.Title, squares[at])
				}
				squares[at] = p.Title
			}
		}
	}
	if len(d.Panels) == 0 {
		t.Error("there are no panels")
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Fatal("promtool is missing: scripts/test installs it")
	}
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestAlerts(t *testing.T) {
	promtool(t, "check", "rules", "--lint-fatal", "alerts.yaml")
	promtool(t, "test", "rules", "alerts_test.yaml")
	// Every alert is tried in both ways.
	text, err := os.ReadFile("alerts_test.yaml")
	must(t, err)
	var tried struct {
		Tests []struct {
			Cases []struct {
				Alertname string
				Expected  []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	must(t, yaml.Unmarshal(text, &tried))
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, group := range tried.Tests {
		for _, c := range group.Cases {
			fires[c.Alertname] = fires[c.Alertname] || len(c.Expected) > 0
			silent[c.Alertname] = silent[c.Alertname] || len(c.Expected) == 0
		}
	}
	for _, a := range readAlerts(t) {
		if !fires[a.name] || !silent[a.name] {
			t.Errorf("%s is not tried in both ways", a.name)
		}
	}
}

// Every expression of the dashboard can be read, as a rule with Grafana's variables filled in.
func TestDashboardIsPromQL(t *testing.T) {
	_, shown := readDashboard(t)
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for i, e := range shown {
		expr := strings.NewReplacer("$__rate_interval", "1m", "$instance", ".*", "$metrics", ".*").Replace(e.expr)
		rules += fmt.Sprintf("  - record: panel:%d\n    expr: %q\n", i, expr)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	must(t, os.WriteFile(file, []byte(rules), 0o600))
	promtool(t, "check", "rules", file)
}
