package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// Examples are what a test records: golden files in testdata, and blocks of a document that stand between
// <!-- kind: name --> and <!-- end -->.
type Examples struct {
	Doc     string // path
	Kind    string
	Rewrite bool // golden files and document, instead of holding them to what was recorded
}

var exampleBlock = regexp.MustCompile("(?s)<!-- (\\w+): (\\S+) -->\n(.*?)<!-- end -->")

// Check holds the golden files and the document to what has been recorded, by names of golden files.
func (e Examples) Check(t *testing.T, got map[string][]byte) {
	t.Helper()
	for name, text := range got {
		golden := filepath.Join("testdata", name)
		if e.Rewrite {
			if err := os.WriteFile(golden, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden) //nolint:gosec // one of our own
		if err != nil || !bytes.Equal(text, want) {
			t.Errorf("%s: %v; got\n%s", name, err, text)
		}
	}
	doc, err := os.ReadFile(e.Doc)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	fresh := exampleBlock.ReplaceAllFunc(doc, func(old []byte) []byte {
		match := exampleBlock.FindSubmatch(old)
		name := string(match[2])
		if string(match[1]) != e.Kind {
			return old
		}
		seen[name] = true
		text, ok := got[name]
		if !ok {
			t.Errorf("%s shows %s, which no test records", e.Doc, name)
			return old
		}
		return []byte("<!-- " + e.Kind + ": " + name + " -->\n```\n" + string(bytes.TrimRight(text, "\n")) + "\n```\n<!-- end -->")
	})
	for name := range got {
		if !seen[name] {
			t.Errorf("%s does not show %s", e.Doc, name)
		}
	}
	if e.Rewrite {
		if err := os.WriteFile(e.Doc, fresh, 0o600); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(fresh, doc) {
		t.Errorf("the examples in %s are not what the server sends; run make generate", e.Doc)
	}
}
