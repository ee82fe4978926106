//go:build race

package rule_test

// raced tells that the race detector watches, which makes everything slow and large.
const raced = true
