package main

import (
	"encoding/json"
	"os"
	"testing"
)

// The figures and pictures that people read are those of report.json.
func TestPageShowsTheReport(t *testing.T) {
	read := func(path string) []byte {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var r report
	if err := json.Unmarshal(read("../report.json"), &r); err != nil {
		t.Fatal(err)
	}
	page := read("../../docs/performance.md")
	want, err := r.intoPage(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != string(want) {
		t.Error("docs/performance.md is not as report.json has it; want: cd bench && go run ./report -draw")
	}
	if string(read("../../docs/performance.svg")) != string(r.bars()) {
		t.Error("docs/performance.svg is not as report.json has it; want: cd bench && go run ./report -draw")
	}
	if string(read("../report.svg")) != string(r.draw()) {
		t.Error("report.svg is not as report.json has it; want: cd bench && go run ./report -draw")
	}
}
