// Package uplot carries the charts of pages: uPlot 1.6.32 as it was published, with its licence.
package uplot

import _ "embed"

// The files. Script defines the global uPlot; License must come along with it.
var (
	//go:embed uPlot.iife.min.js
	Script string
	//go:embed uPlot.min.css
	Style string
	//go:embed uPlot.LICENSE
	License string
)
