package main

import (
	"fmt"
	"html"
	"strings"
)

// draw makes a picture of three columns of bars, one row for each setting.
func draw(results []result) string {
	const left, column, bar, row, top = 330, 190, 150.0, 30, 64
	columns := []struct {
		title string
		most  float64
		value func(result) (share float64, text string)
	}{
		{"of the limit is used", 1, func(r result) (float64, string) { return r.used, fmt.Sprintf("%.0f %%", 100*r.used) }},
		{"of their share for far pods", 1, func(r result) (float64, string) {
			if r.far == 0 {
				return 0, "–"
			}
			return r.share, fmt.Sprintf("%.0f %%", 100*r.share)
		}},
		{"round trips a turn", 3, func(r result) (float64, string) { return r.trips, fmt.Sprintf("%.2f", r.trips) }},
	}
	width, height := left+len(columns)*column, top+len(results)*row+10
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="13">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="10" y="22" font-size="16" fill="#222">One quota for a fleet: pods × goroutines, limit, distance</text>`+"\n")
	for i, c := range columns {
		x := left + i*column
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#555">%s</text>`+"\n", x, top-12, c.title)
		for j, r := range results {
			share, text := c.value(r)
			y := top + j*row
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.0f" height="18" fill="#e6ebf2"/>`+"\n", x, y, bar)
			fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="18" fill="#2f6fb0"/>`+"\n", x, y, bar*min(1, share/c.most))
			fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#222" stroke="#fff" stroke-width="3" paint-order="stroke">%s</text>`+"\n", x+6, y+14, text)
		}
	}
	for j, r := range results {
		fmt.Fprintf(&b, `<text x="10" y="%d" fill="#222">%s</text>`+"\n", top+j*row+14, html.EscapeString(r.setting.String()))
	}
	return b.String() + "</svg>\n"
}
