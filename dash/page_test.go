package dash_test

import "testing"

func TestPage(t *testing.T) {
	browser := startBrowser(t)
	t.Run("looks", func(t *testing.T) {
		s := newService(t)
		p := openTab(t, browser, s, "", desk).ready()
		s.tick(3)
		p.screenshot("light")
	})
}
