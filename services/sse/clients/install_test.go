package clients

import (
	"os"
	"testing"

	"github.com/tickwire/tickwire/services/internal/testkit"
)

// cache is the folder of the cache in which clients are installed.
const cache = "sse-clients"

// node installs the JavaScript clients.
func node(t *testing.T) (node, dir string) {
	t.Helper()
	return testkit.Node(t, cache)
}

// chromium says where the browser is.
func chromium(t *testing.T) string {
	t.Helper()
	return testkit.Tool(t, "apt-get install chromium, or set CHROMIUM", os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
}

// python installs the Python clients.
func python(t *testing.T) (python, dir string) {
	t.Helper()
	return testkit.Python(t, cache)
}

// goSSE builds the Go client.
func goSSE(t *testing.T) string {
	t.Helper()
	return testkit.GoProgram(t, cache, "go-sse")
}
