package wire_test

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const protocolPath = "../../docs/PROTOCOL.md"

var (
	// example is a golden file between markers: <!-- golden: FILE --> ... <!-- end -->.
	example = regexp.MustCompile(`(?s)<!-- golden: (\S+) -->\n(.*?)<!-- end -->`)
	fence   = regexp.MustCompile("(?m)^```json")
)

func asExample(name string, text []byte) string {
	switch filepath.Ext(name) {
	case ".json":
		return "```json\n" + string(text) + "```\n"
	case ".hex":
		return "```\n" + string(text) + "```\n"
	}
	return string(text)
}

// schema is what the tables of docs/PROTOCOL.md say about tickwire.xml.
type schema struct {
	ID      uint16 `xml:"id,attr"`
	Version uint16 `xml:"version,attr"`
	Types   []struct {
		Name string `xml:"name,attr"`
		Type string `xml:"primitiveType,attr"`
		Text string `xml:"description,attr"`
	} `xml:"types>type"`
	Enums []struct {
		Name   string `xml:"name,attr"`
		Text   string `xml:"description,attr"`
		Values []struct {
			Name   string `xml:"name,attr"`
			Text   string `xml:"description,attr"`
			Number int    `xml:",chardata"`
		} `xml:"validValue"`
	} `xml:"types>enum"`
	Messages []struct {
		Name   string        `xml:"name,attr"`
		ID     uint16        `xml:"id,attr"`
		Block  uint16        `xml:"blockLength,attr"`
		Text   string        `xml:"description,attr"`
		Fields []schemaField `xml:"field"`
		Groups []struct {
			Name   string        `xml:"name,attr"`
			Block  uint16        `xml:"blockLength,attr"`
			Text   string        `xml:"description,attr"`
			Fields []schemaField `xml:"field"`
			Data   []schemaField `xml:"data"`
		} `xml:"group"`
		Data []schemaField `xml:"data"`
	} `xml:"message"`
}

type schemaField struct {
	Name   string `xml:"name,attr"`
	Type   string `xml:"type,attr"`
	Offset uint16 `xml:"offset,attr"`
	Text   string `xml:"description,attr"`
}

func readSchema(t *testing.T) (s schema) {
	t.Helper()
	text, err := os.ReadFile("tickwire.xml")
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// headFields is how many fields the events have in common: market.Head.
const headFields = 6

// TestProtocolTables writes the tables of the binary messages from the schema.
func TestProtocolTables(t *testing.T) {
	s := readSchema(t)
	primitive, meaning := map[string]string{}, map[string]string{}
	for _, typ := range s.Types {
		primitive[typ.Name], meaning[typ.Name] = typ.Type, typ.Text
	}
	for _, e := range s.Enums {
		primitive[e.Name] = "uint8, " + e.Name
	}
	primitive["BarFlags"] = "uint8, bits"
	meaning["BarFlags"] = "Bit 0: closed, the bar is final. Bit 1: incomplete, a trade gap falls into it"
	row := func(b *strings.Builder, at string, f schemaField) {
		typ, text := f.Type, f.Text
		if p := primitive[typ]; p != "" {
			typ = p
		}
		if text == "" {
			text = meaning[f.Type]
		}
		fmt.Fprintf(b, "| %s | `%s` | %s | %s |\n", at, f.Name, typ, text)
	}
	var b strings.Builder
	const head = "| offset | field | type | |\n|---|---|---|---|\n"
	b.WriteString("#### The head of templates 1 to 9\n" + head)
	for _, f := range s.Messages[0].Fields[:headFields] {
		row(&b, fmt.Sprint(f.Offset), f)
	}
	for _, m := range s.Messages {
		fmt.Fprintf(&b, "\n#### %s, template %d, block of %d bytes\n%s.\n\n%s", m.Name, m.ID, m.Block, m.Text, head)
		if m.ID < 20 {
			b.WriteString("| 0 | head | 40 bytes | |\n")
			m.Fields = m.Fields[headFields:]
		}
		for _, f := range m.Fields {
			row(&b, fmt.Sprint(f.Offset), f)
		}
		for _, g := range m.Groups {
			fmt.Fprintf(&b, "| group | `%s` | entries of %d bytes | %s |\n", g.Name, g.Block, g.Text)
			for _, f := range g.Fields {
				row(&b, fmt.Sprintf("+%d", f.Offset), f)
			}
			for _, f := range g.Data {
				f.Type = "text"
				row(&b, "data", f)
			}
		}
		for _, f := range m.Data {
			f.Type = map[string]string{"varStringEncoding": "text", "varDataEncoding": "bytes"}[f.Type]
			row(&b, "data", f)
		}
	}
	b.WriteByte('\n')
	for _, e := range s.Enums {
		fmt.Fprintf(&b, "**%s**: ", e.Name)
		for i, v := range e.Values {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "%d %s", v.Number, v.Name)
		}
		if e.Text != "" {
			b.WriteString(". " + e.Text)
		}
		b.WriteString(".\n\n")
	}
	golden(t, "sbe.md", []byte(b.String()))
}

// TestProtocolExamples holds the examples of docs/PROTOCOL.md to the golden files; -update rewrites them. It runs after the tests
// that write those files.
func TestProtocolExamples(t *testing.T) {
	doc, err := os.ReadFile(protocolPath)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	want := example.ReplaceAllFunc(doc, func(block []byte) []byte {
		name := string(example.FindSubmatch(block)[1])
		text, err := os.ReadFile(filepath.Join(goldenDir, name))
		if err != nil {
			t.Errorf("an example without a golden file: %v", err)
			return block
		}
		shown++
		return fmt.Appendf(nil, "<!-- golden: %s -->\n%s<!-- end -->", name, asExample(name, text))
	})
	if shown < 40 {
		t.Errorf("%d examples were found", shown)
	}
	if n := len(fence.FindAll(example.ReplaceAll(doc, nil), -1)); n > 0 {
		t.Errorf("%d JSON examples do not come from golden files", n)
	}
	if *update && !bytes.Equal(doc, want) {
		if err := os.WriteFile(protocolPath, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for i, line := range bytes.Split(want, []byte("\n")) {
		if have := bytes.Split(doc, []byte("\n")); i >= len(have) || !bytes.Equal(have[i], line) {
			t.Fatalf("docs/PROTOCOL.md:%d is not as the golden file has it (-update rewrites it):\n%s", i+1, line)
		}
	}
}
