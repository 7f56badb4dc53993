// Package ogen is what ogen makes of the same OpenAPI document: a second client that nobody wrote for ovhauth.
package ogen

//go:generate go run github.com/ogen-go/ogen/cmd/ogen@v1.24.0 --config ogen.yml --target . --package ogen ../openapi.yaml
