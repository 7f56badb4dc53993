//go:build race

package ovhauth_test

const raceEnabled = true
