//go:build !linux

package sse

// hangups watches nothing where there is no epoll: a goroutine reads from each client instead.
type hangups struct{}

func (*hangups) watch(*client) bool { return false }
func (*hangups) forget(*client)     {}
func (*hangups) close()             {}
