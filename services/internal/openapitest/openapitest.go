// Package openapitest holds what a server answers to its OpenAPI document, in tests.
package openapitest

import (
	"bytes"
	"mime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/valyala/fasthttp"
	"go.yaml.in/yaml/v3"
)

// Document is an OpenAPI document, read strictly: an answer may have no member that the document does not tell of.
type Document struct {
	Root  map[string]any
	Paths map[string]any

	mu      sync.Mutex // requests may be made side by side; compiling a schema changes those it refers to
	schemas *jsonschema.Compiler
}

const documentURL = "https://tickwire.invalid/openapi.json"

// Read reads a document. The schemas called parts are parts of others only, which close them.
func Read(t testing.TB, text []byte, parts ...string) *Document {
	t.Helper()
	d := &Document{schemas: jsonschema.NewCompiler()}
	if err := yaml.Unmarshal(text, &d.Root); err != nil {
		t.Fatal(err)
	}
	d.Paths = d.Root["paths"].(map[string]any)
	for name, schema := range d.Root["components"].(map[string]any)["schemas"].(map[string]any) {
		tighten(schema, slices.Contains(parts, name))
	}
	d.schemas.DefaultDraft(jsonschema.Draft2020)
	if err := d.schemas.AddResource(documentURL, plain(d.Root)); err != nil {
		t.Fatal(err)
	}
	return d
}

// tighten closes a schema to members that it does not name, unless it is a part of another one.
func tighten(node any, part bool) {
	switch node := node.(type) {
	case []any:
		for _, e := range node {
			tighten(e, part)
		}
	case map[string]any:
		_, named := node["properties"].(map[string]any)
		_, composed := node["allOf"]
		for key, e := range node {
			tighten(e, key == "allOf" || part && key == "oneOf")
		}
		if (named || composed) && !part {
			node["unevaluatedProperties"] = false
		}
	}
}

// plain turns what a YAML reader makes into what a JSON reader makes.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			v[k] = plain(e)
		}
	case []any:
		for i, e := range v {
			v[i] = plain(e)
		}
	case int:
		return float64(v)
	}
	return v
}

// At follows a JSON pointer, and the references on the way. It returns where it has come to.
func (d *Document) At(pointer string) (node any, where string, ok bool) {
	node = any(d.Root)
	where = "#"
	for _, part := range strings.Split(strings.TrimPrefix(pointer, "#/"), "/") {
		m, isMap := node.(map[string]any)
		if !isMap {
			return nil, "", false
		}
		node, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(part)]
		if !ok {
			return nil, "", false
		}
		where += "/" + part
		if m, isMap := node.(map[string]any); isMap {
			if ref, isRef := m["$ref"].(string); isRef && !strings.Contains(ref, "/schemas/") {
				if node, where, ok = d.At(ref); !ok {
					return nil, "", false
				}
			}
		}
	}
	return node, where, true
}

// Check holds the answer to a request by that method to the document.
func (d *Document) Check(t testing.TB, method, path string, r *fasthttp.Response) {
	t.Helper()
	response := "#/paths/" + strings.ReplaceAll(path, "/", "~1") + "/" + method + "/responses/" + strconv.Itoa(r.StatusCode())
	node, _, ok := d.At(response)
	if !ok {
		t.Errorf("%s %s: status %d is not in the document", method, path, r.StatusCode())
		return
	}
	headers, _ := node.(map[string]any)["headers"].(map[string]any)
	for name := range headers {
		node, _, _ := d.At(response + "/headers/" + name)
		h, _ := node.(map[string]any)
		if required, _ := h["required"].(bool); required && len(r.Header.Peek(name)) == 0 {
			t.Errorf("%s, %d: no %s", path, r.StatusCode(), name)
		}
	}
	kind, _, err := mime.ParseMediaType(string(r.Header.ContentType()))
	if len(r.Body()) == 0 {
		return
	}
	_, where, ok := d.At(response + "/content/" + strings.ReplaceAll(kind, "/", "~1") + "/schema")
	if !ok {
		t.Errorf("%s, %d: %q (%v) is not in the document", path, r.StatusCode(), kind, err)
		return
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(r.Body()))
	if err != nil {
		t.Errorf("%s: %v", r.Body(), err)
		return
	}
	if err := d.validate(documentURL+where, value); err != nil {
		t.Errorf("%s: %s\n%#v", path, r.Body(), err)
	}
}

// validate holds a value to a schema.
func (d *Document) validate(schema string, value any) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	s, err := d.schemas.Compile(schema)
	if err != nil {
		return err
	}
	return s.Validate(value)
}

// Follow looks whether every reference leads somewhere.
func (d *Document) Follow(t testing.TB, node any) {
	t.Helper()
	switch node := node.(type) {
	case []any:
		for _, e := range node {
			d.Follow(t, e)
		}
	case map[string]any:
		if ref, ok := node["$ref"].(string); ok {
			if _, _, found := d.At(ref); !found {
				t.Errorf("%s leads nowhere", ref)
			}
		}
		for _, e := range node {
			d.Follow(t, e)
		}
	}
}

// Params are the parameters of an operation.
func (d *Document) Params(op any) (all []map[string]any) {
	list, _ := op.(map[string]any)["parameters"].([]any)
	for _, p := range list {
		p := p.(map[string]any)
		if ref, ok := p["$ref"].(string); ok {
			to, _, _ := d.At(ref)
			p = to.(map[string]any)
		}
		all = append(all, p)
	}
	return all
}
