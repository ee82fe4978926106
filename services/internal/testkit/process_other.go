//go:build !linux

package testkit

import "syscall"

// diesWithParent has no equivalent here: a test that is killed with -9 leaves its brokers behind.
func diesWithParent() *syscall.SysProcAttr { return nil }
