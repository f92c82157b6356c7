package replay

import (
	_ "embed"
	"html/template"
	"io"
	"strings"

	"drain/uplot"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS template.CSS

//go:embed page.js
var pageJS template.JS

var page = template.Must(template.New("page").Parse(pageHTML))

// pageData is the result with what the page alone shows.
type pageData struct {
	*Result
	Curves []*Curves `json:"curves"` // by route, null where there are no times
}

// WriteHTML writes the result as a page that stands alone: it asks for no other file.
func (r *Result) WriteHTML(w io.Writer) error {
	data := pageData{Result: r}
	for i := range r.Routes {
		var c *Curves
		if t := r.Routes[i].Times; t != nil {
			c = t.Curves
		}
		data.Curves = append(data.Curves, c)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		return err
	}
	return page.Execute(w, map[string]any{
		"Result": r, "Text": text.String(), "Data": data, "CSS": pageCSS, "JS": pageJS,
		"ChartCSS": template.CSS(uplot.Style), "ChartJS": template.JS(uplot.Script), "License": uplot.License,
	})
}
