//go:build !unix

package bookview

import "os"

// windowSize knows no terminals here: the book is printed line by line.
func windowSize(*os.File) (width, height int, ok bool) { return 80, 24, false }
