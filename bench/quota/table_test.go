package main

import (
	"fmt"
	"net/http"
	"testing"

	"example.com/ovhauth"
)

// Put the stack to be judged here.
var stacks = []Stack{
	{"product, as it is", func(b http.RoundTripper) http.RoundTripper { return &ovhauth.RetryTransport{Base: b} }},
}

func TestTable(t *testing.T) {
	fmt.Println(Header)
	for _, s := range Scenarios {
		t.Run(s.Name, func(t *testing.T) {
			ideal := Run(t, s, nil)
			for _, stack := range stacks {
				fmt.Println(Row(s, stack.Name, Run(t, s, &stack), ideal))
			}
		})
	}
}
