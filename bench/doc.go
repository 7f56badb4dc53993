// Package bench measures example.com/ovhauth beside what else signs or repeats HTTP requests in Go, and beside a baseline,
// a signer written by hand. "go run ./report" measures all of it, in pairs; "go test -bench ." runs one shape at a time, for a profile.
//
// "go run ./quota" shows how all of them cope with a rate limit that nobody told them.
package bench
