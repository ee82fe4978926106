package all

import (
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// The key is made once, whoever asks first, and nothing else is left beside it.
func TestKeptKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	var keys [8]string
	var all sync.WaitGroup
	for i := range keys {
		all.Go(func() { keys[i], _ = keptKey(dir) }) // those that come too late get an error
	}
	all.Wait()
	kept, err := keptKey(dir)
	if err != nil || len(kept) != 44 {
		t.Fatal(kept, err)
	}
	for _, k := range keys {
		if k != "" && k != kept {
			t.Errorf("somebody has the key %s, kept is %s", k, kept)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 1 {
		t.Errorf("%v, %v", files, err)
	}
	if info, err := os.Stat(filepath.Join(dir, keyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}
