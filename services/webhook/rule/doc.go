// Package rule evaluates price alerts: thresholds on scalar series of instruments, exactly and deterministically. It does no
// I/O and reads no clock: what it does is a function of the records of md.events and of the rules.
package rule
