// Package streamtest holds the tests of pkg/stream that need brokers: the same suite runs against the embedded broker and
// against real Apache Kafka. It has no code of its own.
package streamtest
