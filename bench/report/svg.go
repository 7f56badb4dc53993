package main

import (
	"bytes"
	"fmt"
	"html"
	"math"

	"example.com/ovhauth/bench"
)

// The chart has a line for each ratio with a target: a dot at the median, a bar from quartile to quartile, a tick at the target.
const (
	lineHeight = 22
	left       = 330 // of the axis
	width      = 460 // of the axis
	lowest     = 0.001
	highest    = 2.0
)

// x is where a ratio stands on the axis, which is logarithmic.
func x(ratio float64) float64 {
	ratio = min(max(ratio, lowest), highest)
	return left + width*math.Log(ratio/lowest)/math.Log(highest/lowest)
}

// draw returns the chart as an SVG that follows the reader's colour scheme.
func draw(rows []bench.Row) []byte {
	var shown []bench.Row
	for _, r := range rows {
		if r.Unit == "×" && r.Bound != "" {
			shown = append(shown, r)
		}
	}
	var b bytes.Buffer
	height := 70 + lineHeight*len(shown)
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 940 %d" font-family="system-ui,sans-serif" font-size="13">
<title>ovhauth beside its peers: ratios, and what they must reach</title>
<style>
text { fill: #1f2328 } .soft { fill: #59636e } .line { stroke: #d1d9e0 } .tick { stroke: #1f2328; stroke-width: 2 }
.holds { fill: #1a7f37 } .misses { fill: #bc4c00 } .spread { opacity: .35 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .soft { fill: #9198a1 } .line { stroke: #3d444d } .tick { stroke: #f0f6fc }
  .holds { fill: #3fb950 } .misses { fill: #f0883e }
}
</style>
<text x="10" y="20" class="soft">ours ÷ theirs: dot = median, bar = quartiles, tick = target (time: at most; requests/s: at least)</text>
`, height)
	for _, at := range []float64{0.001, 0.01, 0.1, 1} {
		fmt.Fprintf(&b, `<line class="line" x1="%.1f" x2="%.1f" y1="34" y2="%d"/>`, x(at), x(at), height-30)
		fmt.Fprintf(&b, `<text class="soft" x="%.1f" y="%d" text-anchor="middle">%g</text>`+"\n", x(at), height-12, at)
	}
	for i, r := range shown {
		y := 46 + lineHeight*i
		class := "misses"
		if r.Holds() {
			class = "holds"
		}
		fmt.Fprintf(&b, `<text x="10" y="%d">%s <tspan class="soft">/ %s</tspan></text>`,
			y+4, html.EscapeString(r.Shape), html.EscapeString(r.Beside))
		fmt.Fprintf(&b, `<rect class="%s spread" x="%.1f" y="%d" width="%.1f" height="8" rx="4"/>`, class, x(r.Q1), y-4, x(r.Q3)-x(r.Q1))
		fmt.Fprintf(&b, `<line class="tick" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`, x(r.Target), x(r.Target), y-7, y+7)
		fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%d" r="4"/>`, class, x(r.Value), y)
		fmt.Fprintf(&b, `<text x="810" y="%d">%.3g <tspan class="soft">%s %g</tspan></text>`+"\n", y+4, r.Value, r.Bound, r.Target)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}
