//go:build !unix

package store

import "os"

// lockFolder can't keep a second process out here.
func lockFolder(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
