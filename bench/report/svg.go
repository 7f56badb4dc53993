package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"slices"

	"example.com/ovhauth/bench"
)

// The chart has a line for each ratio with a target: a dot at the median, in a bar from quartile to quartile. Its axis is the ratio
// divided by its target, or the other way round where more is better: left of 1 the target is reached.
const (
	lineHeight = 22
	left       = 330 // of the axis
	width      = 400 // of the axis
	farthest   = 1.6
)

// x is where a share of the target stands on the axis.
func x(share float64) float64 { return left + width*min(share, farthest)/farthest }

// share is what v is of row's target.
func share(row bench.Row, v float64) float64 {
	if row.Bound == "≥" {
		return row.Target / v
	}
	return v / row.Target
}

// draw returns the chart as an SVG that follows the reader's color scheme.
func (r report) draw() []byte {
	var shown []bench.Row
	for _, row := range r.Rows {
		if row.Unit == "×" && row.Bound != "" {
			shown = append(shown, row)
		}
	}
	var b bytes.Buffer
	height := 118 + lineHeight*len(shown)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1000 %d" font-family="system-ui,sans-serif" font-size="13">
<title>ovhauth beside its peers: ratios, as shares of what they must reach</title>
<style>
text { fill: #1f2328 } .soft { fill: #59636e } .line { stroke: #d1d9e0 } .target { stroke: #1f2328; stroke-width: 2 }
.holds { fill: #1a7f37 } .misses { fill: #bc4c00 } .even { fill: #9a6700 } .spread { opacity: .35 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .soft { fill: #9198a1 } .line { stroke: #3d444d } .target { stroke: #f0f6fc }
  .holds { fill: #3fb950 } .misses { fill: #f0883e } .even { fill: #d29922 }
}
</style>
<text x="10" y="20" class="soft">Time of ovhauth ÷ time of the peer, or requests/s ÷ requests/s: dot = median, bar = quartiles. The black line is the target.</text>
<text x="10" y="38" class="soft">To the left of it the target is reached, whether less is better or more. On the line: within the error of the median.</text>
<text x="10" y="56" class="soft">%s, %s, %s, %s.</text>
`, height, r.Date, r.Go, r.Platform, html.EscapeString(r.Processor))
	for _, at := range []float64{0, 0.5, 1, 1.5} {
		class := "line"
		if at == 1 {
			class = "target"
		}
		fmt.Fprintf(&b, `<line class="%s" x1="%.1f" x2="%.1f" y1="72" y2="%d"/>`, class, x(at), x(at), height-32)
		fmt.Fprintf(&b, `<text class="soft" x="%.1f" y="%d" text-anchor="middle">%g × target</text>`+"\n", x(at), height-14, at)
	}
	for i, row := range shown {
		y := 84 + lineHeight*i
		class := map[string]string{"holds": "holds", "misses": "misses", "on the line": "even"}[row.Verdict()]
		from, to := x(share(row, row.Q1)), x(share(row, row.Q3))
		fmt.Fprintf(&b, `<text x="10" y="%d">%s <tspan class="soft">/ %s</tspan></text>`,
			y+4, html.EscapeString(row.Shape), html.EscapeString(row.Beside))
		fmt.Fprintf(&b, `<rect class="%s spread" x="%.1f" y="%d" width="%.1f" height="8" rx="4"/>`, class, min(from, to), y-4, max(from, to)-min(from, to))
		fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%d" r="4"/>`, class, x(share(row, row.Value)), y)
		fmt.Fprintf(&b, `<text x="745" y="%d">%s <tspan class="soft">(target %s %s) %s</tspan></text>`+"\n",
			y+4, figure(row, row.Value), row.Bound, figure(row, row.Target), row.Verdict())
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// pictured are the shapes of work of which bars shows the times, and what they are called there.
var pictured = []struct{ shape, title string }{
	{"build and sign: GET", "GET"},
	{"build and sign: POST a struct", "POST a struct of four fields"},
	{"build and sign: POST 1 KiB", "POST 1 KiB of JSON"},
}

// bars returns an SVG of the time that a request takes: ours, and that of the others, from the same run.
func (r report) bars() []byte {
	longest := 0.0
	times := map[string][]bench.Row{} // by shape
	for _, row := range r.Rows {
		if row.Unit != "µs" || !slices.ContainsFunc(pictured, func(p struct{ shape, title string }) bool { return p.shape == row.Shape }) {
			continue
		}
		longest = max(longest, row.Value)
		times[row.Shape] = append(times[row.Shape], row)
	}
	var lines bytes.Buffer
	y := 64
	for _, p := range pictured {
		rows := times[p.shape]
		slices.SortStableFunc(rows, func(a, b bench.Row) int { return cmp.Compare(a.Value, b.Value) })
		fmt.Fprintf(&lines, `<text x="10" y="%d" font-weight="600">%s</text>`+"\n", y, p.title)
		for _, row := range rows {
			y += lineHeight
			class, name := "peer", row.Beside
			switch name {
			case "ours":
				class, name = "ours", "ovhauth"
			case "the baseline":
				name = "a signer written by hand"
			}
			length := 560 * row.Value / longest
			fmt.Fprintf(&lines, `<text x="20" y="%d">%s</text><rect class="%s" x="220" y="%d" width="%.1f" height="14" rx="2"/>`+
				`<text class="soft" x="%.1f" y="%d">%.2f µs</text>`+"\n", y, html.EscapeString(name), class, y-12, length, 228+length, y, row.Value)
		}
		y += 2 * lineHeight
	}
	return fmt.Appendf(nil, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 900 %d" font-family="system-ui,sans-serif" font-size="13">
<title>µs per request: ovhauth, go-ovh, sigv4, x/oauth2 and a signer written by hand</title>
<style>
text { fill: #1f2328 } .soft { fill: #59636e } .ours { fill: #0969da } .peer { fill: #afb8c1 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .soft { fill: #9198a1 } .ours { fill: #4493f8 } .peer { fill: #656c76 } }
</style>
<text x="10" y="20" class="soft">µs to build a request and to authenticate it, over a base that does nothing: medians of one run. Shorter is faster.</text>
<text x="10" y="38" class="soft">x/oauth2 sets one header and hashes nothing. %s, %s, %s, %s.</text>
%s</svg>
`, y-lineHeight, r.Date, r.Go, r.Platform, html.EscapeString(r.Processor), lines.Bytes())
}
