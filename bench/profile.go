package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/pprof/profile"
)

// profileCommand makes the profile by which drain is compiled: of usual loads, so
// that the compiler knows what is called often.
type profileCommand struct {
	Out string `default:"cmd/drain/default.pgo" help:"File for it."`
}

// profiled are the loads that it is made of.
var profiled = []struct {
	compression string
	load        Load
}{
	{"none", full},
	{"none", Load{Generator: "wrk", Connections: 64, Lines: 310, Drains: 16}},
	{"none", Load{Generator: "wrk", Connections: 64, Lines: 10, Drains: 16}},
	{"zstd", full},
}

// Run makes it.
func (c *profileCommand) Run(ctx context.Context) error {
	b, done, err := newBench(ctx, 6*time.Second)
	if err != nil {
		return err
	}
	defer done()
	// Without the paths of this machine, which go into the profile.
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-pgo=off", "-o", b.path("drain"), "./cmd/drain")
	cmd.Dir = b.root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build drain: %w\n%s", err, out)
	}
	var all []*profile.Profile
	for _, p := range profiled {
		setup := plain("drain", "kfake", 4)
		setup.Compression = p.compression
		setup.Profiles = true
		s, err := b.service(setup)
		if err != nil {
			return err
		}
		got := make(chan error, 1)
		var one *profile.Profile
		go func() {
			time.Sleep(time.Second)
			one, err = fetchProfile(s.profiles, 4*time.Second)
			got <- err
		}()
		_, err = b.load(s, p.load, b.duration)
		if err := errors.Join(err, <-got); err != nil {
			return err
		}
		all = append(all, one)
	}
	merged, err := profile.Merge(all)
	if err != nil {
		return fmt.Errorf("merge the profiles: %w", err)
	}
	for _, m := range merged.Mapping {
		m.File, m.BuildID = "", ""
	}
	f, err := os.Create(filepath.Join(b.root, c.Out))
	if err != nil {
		return err
	}
	if err := merged.Write(f); err != nil {
		return fmt.Errorf("write %s: %w", c.Out, err)
	}
	return f.Close()
}

func fetchProfile(url string, d time.Duration) (*profile.Profile, error) {
	res, err := http.Get(fmt.Sprintf("%s?seconds=%d", url, int(d.Seconds())))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 1000))
		return nil, fmt.Errorf("fetch a profile: %s: %s", res.Status, text)
	}
	return profile.Parse(res.Body)
}
