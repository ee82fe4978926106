package rivals

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/bench/swarm"
	"github.com/tickwire/tickwire/bench/target"
)

// program finds a program, which is needed when the variable is set.
func program(t *testing.T, variable, name, how string) string {
	t.Helper()
	if os.Getenv(variable) == "" {
		t.Skipf("%s has to be installed: %s", name, how)
	}
	if path := filepath.Join(os.Getenv("TICKWIRE_CACHE"), "bin", name); os.Getenv("TICKWIRE_CACHE") != "" {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	for _, dir := range []string{"", "/usr/sbin/"} {
		if path, err := exec.LookPath(dir + name); err == nil {
			return path
		}
	}
	t.Fatalf("%s is not installed: %s", name, how)
	return ""
}

// free is a port that nobody had a moment ago.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }() // somebody else takes it
	return ln.Addr().String()
}

// start starts a server, waits until it can be reached at the addresses, and ends it with the test.
func start(t *testing.T, cmd *exec.Cmd, addrs ...string) {
	t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		force := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		defer force.Stop()
		_ = cmd.Wait() // says that it was told to end
		if t.Failed() {
			t.Logf("%s", &out)
		}
	})
	for _, addr := range addrs {
		deadline := time.Now().Add(20 * time.Second)
		for {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				_ = conn.Close() // that is all
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not answer at %s", cmd.Path, addr)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// write writes a configuration, in which each @NAME@ is replaced, to a folder of its own.
func write(t *testing.T, name, text string, values ...string) (file, dir string) {
	t.Helper()
	dir = t.TempDir()
	file = filepath.Join(dir, name)
	text = strings.NewReplacer(append(values, "@dir@", dir)...).Replace(text)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, dir
}

// measure has 50 clients of 20 topics get messages for a second, all of them, cuts all their connections, and sees that they
// come back. Resumes says that they miss nothing then; otherwise each knows what it lost.
func measure(t *testing.T, to target.Config, from swarm.Config, resumes bool) {
	t.Helper()
	const clients, topics, rate = 50, 20, 500
	to.Topics, from.Clients = topics, clients
	if from.Each == 0 {
		from.Each = topics
	}
	r := newRig(t, to, from)
	begin := time.Now().Add(20 * time.Millisecond)
	r.publish(begin, rate, rate)
	time.Sleep(time.Until(begin.Add(time.Second)))
	all, ages := r.arrived(rate)
	if want := int64(rate) * clients * int64(from.Each) / topics; all.Behind > 0 || from.Each == topics && all.Messages != want || all.Messages < want/2 || all.Updates != all.Messages {
		t.Errorf("%d clients do not have everything; %d messages, %d updates, want %d", all.Behind, all.Messages, all.Updates, want)
	}
	if all.Gaps+all.GapNotices+all.Again+all.Malformed+all.Closed > 0 {
		t.Errorf("%d gaps, %d losses, %d twice, %d malformed, %d closed: %s", all.Gaps, all.GapNotices, all.Again, all.Malformed, all.Closed, all.Why)
	}
	if p50, p99 := ages.ValueAtQuantile(50), ages.ValueAtQuantile(99); p50 < 20 || p99 > 2_000_000 || ages.TotalCount() != all.Messages {
		t.Errorf("latencies of %d µs and %d µs of %d messages", p50, p99, ages.TotalCount())
	} else {
		t.Logf("%d messages, p50 %d µs, p99 %d µs, %d bytes each", all.Messages, p50, p99, all.Bytes/all.Messages)
	}
	r.stop()

	r.call(r.clients, "begin", nil, nil)
	r.publish(time.Now(), rate, 0)
	r.more(rate / 5)
	cut := time.Now()
	r.call(r.clients, "scatter", nil, nil)
	var back swarm.Connected
	r.call(r.clients, "settled", swarm.Settled{Begin: cut.UnixMicro(), Deadline: 10 * time.Second}, &back)
	r.more(rate / 5)
	published := r.stop().Published
	all, _ = r.arrived(published)
	if back.Ready != clients || all.Behind > 0 || all.Again+all.Malformed+all.Gaps > 0 {
		t.Errorf("%d clients of %d are back (%s), %d do not have everything: %+v", back.Ready, clients, back.Why, all.Behind, all)
	}
	if resumes != (all.GapNotices == 0) {
		t.Errorf("resumes: %v, and %d losses", resumes, all.GapNotices)
	}
	r.end()
}

const install = "apt-get install nats-server nginx-light libnginx-mod-nchan, and make rivals"

func TestNATS(t *testing.T) {
	server := program(t, "TICKWIRE_RIVALS", "nats-server", install)
	plain, ws := free(t), free(t)
	file, _ := write(t, "nats.conf", `
listen: "@plain@"
authorization { token: "secret" }
websocket { listen: "@ws@", no_tls: true }
`, "@plain@", plain, "@ws@", ws)
	start(t, exec.Command(server, "-c", file), plain, ws)
	to := target.Config{Kind: target.NATS, Publish: "nats://" + plain, PublishKey: "secret", Subscribe: "ws://" + ws}
	from := swarm.Config{Protocol: target.NATS, Token: "secret"}
	t.Run("JSON", func(t *testing.T) { measure(t, to, from, false) })
	t.Run("SBE", func(t *testing.T) {
		to, from := to, from
		to.Binary, to.TopicName, from.TopicName, from.Each = true, "md.{topic}", "md.{topic}", 7
		measure(t, to, from, false)
	})
	t.Run("Refused", func(t *testing.T) {
		to, from := to, from
		from.Token = "wrong"
		refused(t, to, from, "Authorization Violation")
		from.Token, to.PublishKey = "secret", "wrong"
		refused(t, to, from, "Authorization Violation")
	})
}

// refused has a server want nothing of us, and looks for its words.
func refused(t *testing.T, to target.Config, from swarm.Config, words string) {
	t.Helper()
	to.Topics, to.Channel, from.Topics, from.Channel, from.Clients, from.Each = 2, "trades", 2, "trades", 1, 1
	r := rig{t: t}
	r.publisher, r.clients = child(t, target.Name), child(t, swarm.Name)
	var started target.Started
	if err := r.publisher.Call("start", to, &started); err != nil {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("the publisher says %v", err)
		}
		return
	}
	r.call(r.clients, "start", from, nil)
	var c swarm.Connected
	if err := r.clients.Call("connect", swarm.Connect{Addr: started.Addr, Deadline: 500 * time.Millisecond}, &c); err != nil {
		c.Why = err.Error() // there is no hope, and so no deadline is waited for
	}
	if c.Ready > 0 || !strings.Contains(c.Why, words) {
		t.Errorf("%d clients are ready, %d failed: %s", c.Ready, c.Failures, c.Why)
	}
}

func TestNchan(t *testing.T) {
	server := program(t, "TICKWIRE_RIVALS", "nginx", install)
	addr := free(t)
	file, dir := write(t, "nginx.conf", `
load_module /usr/lib/nginx/modules/ngx_nchan_module.so;
daemon off;
pid @dir@/nginx.pid;
error_log stderr warn;
worker_processes 1;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path @dir@/body;
  proxy_temp_path @dir@/proxy;
  fastcgi_temp_path @dir@/fastcgi;
  uwsgi_temp_path @dir@/uwsgi;
  scgi_temp_path @dir@/scgi;
  server {
    listen @addr@;
    keepalive_requests 1000000;
    location / { return 404; }
    location ~ ^/pub/(.+)$ {
      nchan_publisher;
      nchan_channel_id $1;
      nchan_message_buffer_length 1000;
      nchan_message_timeout 1m;
    }
    location ~ ^/sub/(.+)$ {
      nchan_subscriber;
      nchan_channel_id $1;
      nchan_channel_id_split_delimiter ",";
    }
  }
}
`, "@addr@", addr)
	start(t, exec.Command(server, "-p", dir, "-c", file), addr)
	to := target.Config{Kind: target.Nchan, Publish: "http://" + addr + "/pub/{topic}"}
	f := func(name, scheme string, sse bool, each int) {
		t.Run(name, func(t *testing.T) {
			to := to
			to.Subscribe, to.TopicName = scheme+"://"+addr+"/sub/{topic}", name+"-{topic}"
			measure(t, to, swarm.Config{Protocol: target.Nchan, SSE: sse, Each: each, TopicName: to.TopicName}, true)
		})
	}
	f("WebSocket", "ws", false, 20)
	f("WebSocketOneTopic", "ws", false, 1)
	f("EventStream", "http", true, 20)
	t.Run("Refused", func(t *testing.T) {
		to := to
		to.Subscribe = "ws://" + addr + "/nothing/{topic}"
		refused(t, to, swarm.Config{Protocol: target.Nchan, JSON: true}, "404")
	})
}

func TestCentrifugo(t *testing.T) {
	server := program(t, "TICKWIRE_CENTRIFUGO", "centrifugo", "make centrifugo")
	addr := free(t)
	host, port, _ := net.SplitHostPort(addr)
	file, _ := write(t, "centrifugo.json", `{
  "http_server": {"address": "@host@", "port": "@port@"},
  "http_api": {"key": "secret"},
  "client": {"insecure": true, "allowed_origins": ["*"]},
  "channel": {
    "without_namespace": {"allow_subscribe_for_client": true},
    "namespaces": [{"name": "md", "allow_subscribe_for_client": true, "history_size": 1000, "history_ttl": "60s", "force_recovery": true}]
  }
}`, "@host@", host, "@port@", port)
	start(t, exec.Command(server, "-c", file), addr)
	to := target.Config{Kind: target.Centrifugo, Publish: "http://" + addr, PublishKey: "secret", Subscribe: "ws://" + addr}
	f := func(name, topic string, resumes bool) {
		t.Run(name, func(t *testing.T) {
			to := to
			to.TopicName = topic
			measure(t, to, swarm.Config{Protocol: target.Centrifugo, TopicName: topic}, resumes)
		})
	}
	f("History", "md:{topic}", true)
	f("NoHistory", "{topic}", false)
	t.Run("Refused", func(t *testing.T) {
		refused(t, to, swarm.Config{Protocol: target.Centrifugo, JSON: true, TopicName: "unknown:{topic}"}, "unknown channel")
	})
}
