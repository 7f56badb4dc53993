// Package iam is what oapi-codegen makes of an OpenAPI document in the form of the API's v2: a client that nobody wrote for ovhauth.
package iam

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -generate types,client -package iam -o iam.gen.go openapi.yaml
