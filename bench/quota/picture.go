package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// line is one stack's in the picture: how many calls were done by when.
type line struct {
	class, name string
	r           Result
}

// picture draws the calls done over time of 1,000 GETs by 64 goroutines at 60 a minute, with Retry-After and without.
func picture(t *testing.T) []byte {
	var b strings.Builder
	b.WriteString(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 920 480" font-family="system-ui,sans-serif" font-size="13">
<title>1,000 GETs by 64 goroutines, over an API that grants 60 a minute: calls done over time</title>
<style>
text { fill: #1f2328 } .soft { fill: #59636e } path { fill: none; stroke-width: 2; stroke: #59636e; stroke-linejoin: round }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.ours { stroke: #0969da; stroke-width: 3.5 } .retryablehttp { stroke: #bc4c00 } .cubic { stroke: #8250df } .limiter { stroke: #1a7f37 }
.ideal { stroke-dasharray: 3 4 }
@media (prefers-color-scheme: dark) { text { fill: #f0f6fc } .soft { fill: #9198a1 } path { stroke: #9198a1 } .grid { stroke: #3d444d }
.ours { stroke: #4493f8 } .retryablehttp { stroke: #f0883e } .cubic { stroke: #ab7df8 } .limiter { stroke: #3fb950 } }
</style>
<text x="20" y="24" font-size="15" font-weight="600">1,000 GETs by 64 goroutines, 60 a minute granted: calls done, over minutes</text>
`)
	for i, after := range []RetryAfter{Ceil, Absent} {
		s := Scenario{Name: "picture", Quota: perMin("fixed", 60), RetryAfter: after}
		title := "the 429s say how long to wait (Retry-After)"
		if after == Absent {
			title = "the 429s do not say how long to wait"
		}
		lines := []line{
			{"ideal", "ideal: knows the quota and each window", Run(t, s, nil)},
			{"retryablehttp", "go-retryablehttp", Run(t, s, &stacks[2])},
			{"cubic", "AWS SDKs, adaptive mode (cubic)", Run(t, s, &stacks[3])},
			{"limiter", "rate.Limiter that is told the quota", Run(t, s, &stacks[4])},
			{"ours", "ovhauth, told nothing", Run(t, s, &stacks[0])},
		}
		panel(&b, 20+i*450, title, lines)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// panel draws the lines, and what they mean, from x0 to the right. A cross ends a line whose other calls failed.
func panel(b *strings.Builder, x0 int, title string, lines []line) {
	const width, height, bottom, minutes = 370, 260, 330, 20
	left := x0 + 40
	fmt.Fprintf(b, `<text x="%d" y="52">%s</text>`+"\n", x0, title)
	for done := 0; done <= 1000; done += 250 {
		y := bottom - done*height/1000
		fmt.Fprintf(b, `<path class="grid" d="M%d %dh%d"/><text class="soft" x="%d" y="%d" text-anchor="end">%d</text>`+"\n",
			left, y, width, left-6, y+4, done)
	}
	for m := 0; m <= minutes; m += 5 {
		fmt.Fprintf(b, `<text class="soft" x="%d" y="%d" text-anchor="middle">%d min</text>`+"\n", left+m*width/minutes, bottom+18, m)
	}
	for i, l := range lines {
		slices.Sort(l.r.Done)
		fmt.Fprintf(b, `<path class="%s" d="M%d %d`, l.class, left, bottom)
		x, y := 0, 0
		for n, at := range l.r.Done {
			x = int(at.Minutes() * width / minutes)
			y = (n + 1) * height / 1000
			if n+1 == len(l.r.Done) || int(l.r.Done[n+1].Minutes()*width/minutes) > x { // the last one of this column
				fmt.Fprintf(b, "H%dV%d", left+x, bottom-y)
			}
		}
		b.WriteString(`"/>` + "\n")
		if l.r.Failed > 0 { // the others are not done
			fmt.Fprintf(b, `<path class="%s" d="M%d %dl8 8m0 -8l-8 8"/>`+"\n", l.class, left+x-4, bottom-y-4)
		}
		row := bottom + 48 + 21*(len(lines)-1-i)
		text := fmt.Sprintf("%s: all done, %d × 429", l.name, l.r.Rejected)
		switch {
		case l.class == "ideal":
			text = l.name
		case l.r.Failed > 0:
			text = fmt.Sprintf("%s: %d failed, %d × 429", l.name, l.r.Failed, l.r.Rejected)
		}
		fmt.Fprintf(b, `<path class="%s" d="M%d %dh24"/><text x="%d" y="%d">%s</text>`+"\n", l.class, x0+4, row-4, x0+36, row, text)
	}
}
