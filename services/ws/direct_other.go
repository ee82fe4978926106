//go:build !unix

package ws

// readDirectly is not there: package net does the reading.
var readDirectly func(fd uintptr, b []byte) (done bool, n int, err error)
