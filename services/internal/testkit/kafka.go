package testkit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tickwire/tickwire/pkg/stream"
)

// KafkaVersion is the Apache Kafka that tests run against.
const KafkaVersion = "4.4.0"

// RequireJava is the environment variable that turns a missing Java or Maven from a skip into a failure.
const RequireJava = "TICKWIRE_REQUIRE_JAVA"

// KafkaOptions shape a KafkaCluster. The zero value is good.
type KafkaOptions struct {
	Config map[string]string // further broker settings
	Secure *KafkaSecurity    // adds a listener with TLS and SASL
}

// KafkaSecurity is what the secure listener of a KafkaCluster wants.
type KafkaSecurity struct {
	CertPEM, KeyPEM    string // the key in PKCS #8
	Username, Password string // for PLAIN and both kinds of SCRAM
}

// KafkaCluster is a running Apache Kafka cluster on loopback, a process per broker, with brokers that are also controllers.
type KafkaCluster struct {
	t       testing.TB
	lib     string
	brokers []*kafkaBroker
}

type kafkaBroker struct {
	dir    string
	addr   string // plain text
	secure string // TLS and SASL; empty without
	mu     sync.Mutex
	proc   *process
}

// Kafka starts a cluster of n brokers that ends with the test. It skips the test without Java and Maven, and with -short.
func Kafka(t testing.TB, n int) *KafkaCluster {
	t.Helper()
	return KafkaWith(t, n, KafkaOptions{})
}

// KafkaWith is Kafka with options.
func KafkaWith(t testing.TB, n int, o KafkaOptions) *KafkaCluster {
	t.Helper()
	requireJava(t)
	lib, err := kafkaJars()
	if err != nil {
		t.Fatalf("fetch Apache Kafka: %v", err)
	}
	// Another process may take a port between our look and the broker's bind.
	for range 3 {
		var k *KafkaCluster
		if k, err = startKafka(t, lib, n, &o); err == nil {
			return k
		}
	}
	t.Fatalf("start Apache Kafka: %v", err)
	return nil
}

func requireJava(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out the tests against real Apache Kafka; they are: make kafka")
	}
	for _, tool := range []string{"java", "mvn"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv(RequireJava) != "" {
				t.Fatalf("%s is set and there is no %s", RequireJava, tool)
			}
			t.Skipf("real Kafka needs Java and Maven: no %s", tool)
		}
	}
}

// Addrs returns the host:port of the plain-text listeners, by broker.
func (k *KafkaCluster) Addrs() []string {
	return k.collect(func(b *kafkaBroker) string { return b.addr })
}

// SecureAddrs returns the host:port of the TLS and SASL listeners, by broker.
func (k *KafkaCluster) SecureAddrs() []string {
	return k.collect(func(b *kafkaBroker) string { return b.secure })
}

func (k *KafkaCluster) collect(fn func(*kafkaBroker) string) []string {
	var list []string
	for _, b := range k.brokers {
		list = append(list, fn(b))
	}
	return list
}

// Index returns the number of the broker with a plain-text address, or -1.
func (k *KafkaCluster) Index(addr string) int { return slices.Index(k.Addrs(), addr) }

// Kill ends a broker as kill -9 does.
func (k *KafkaCluster) Kill(i int) { k.brokers[i].signal(k.t, syscall.SIGKILL) }

// Pause stops a broker as a long garbage collection or a frozen machine does: its connections stay open.
func (k *KafkaCluster) Pause(i int) { k.brokers[i].signal(k.t, syscall.SIGSTOP) }

// Resume ends a Pause.
func (k *KafkaCluster) Resume(i int) { k.brokers[i].signal(k.t, syscall.SIGCONT) }

// Restart starts a killed broker again, on its data. It does not wait until it is ready.
func (k *KafkaCluster) Restart(i int) {
	k.t.Helper()
	if err := k.brokers[i].start(k.lib); err != nil {
		k.t.Fatal(err)
	}
}

// WaitReady waits until n brokers are in the cluster.
func (k *KafkaCluster) WaitReady(ctx context.Context, n int) error {
	c, err := stream.Open(stream.Config{Brokers: k.Addrs()})
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		if err := k.ended(); err != nil && n == len(k.brokers) {
			return err
		}
		hosts, err := attempt(ctx, c)
		if err == nil && len(hosts) >= n {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d brokers are ready", len(hosts), n), err, k.logs())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func attempt(ctx context.Context, c *stream.Cluster) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return c.Brokers(ctx)
}

// ended tells which broker has ended by itself.
func (k *KafkaCluster) ended() error {
	for i, b := range k.brokers {
		b.mu.Lock()
		proc := b.proc
		b.mu.Unlock()
		select {
		case <-proc.done:
			return fmt.Errorf("broker %d ended: %w", i, k.logs())
		default:
		}
	}
	return nil
}

// logs returns the last lines of each broker's output.
func (k *KafkaCluster) logs() error {
	var all []error
	for i, b := range k.brokers {
		text, err := os.ReadFile(b.logFile())
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		all = append(all, fmt.Errorf("broker %d: %s", i, strings.Join(lines[max(0, len(lines)-8):], "\n")))
	}
	return errors.Join(all...)
}

func (b *kafkaBroker) logFile() string { return filepath.Join(b.dir, "broker.log") }

func (b *kafkaBroker) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.proc.signal(sig); err != nil {
		t.Fatalf("signal a broker: %v", err)
	}
	if sig == syscall.SIGKILL {
		<-b.proc.done
	}
}

// heap keeps three brokers and their client on a small machine.
var jvm = []string{"-Xmx320m", "-Xms128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}

func java(lib, class string, args ...string) *exec.Cmd {
	return exec.Command("java", slices.Concat(jvm, []string{"-cp", filepath.Join(lib, "*"), class}, args)...) //nolint:gosec // our own arguments
}

func (b *kafkaBroker) start(lib string) error {
	log, err := os.OpenFile(b.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own descriptor
	cmd := java(lib, "kafka.Kafka", filepath.Join(b.dir, "server.properties"))
	cmd.Stdout, cmd.Stderr = log, log
	proc, err := startProcess(cmd)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.proc = proc
	b.mu.Unlock()
	return nil
}

func startKafka(t testing.TB, lib string, n int, o *KafkaOptions) (*KafkaCluster, error) {
	t.Helper()
	k := &KafkaCluster{t: t, lib: lib}
	dir := t.TempDir()
	controllers := make([]string, n)
	for i := range n {
		b := &kafkaBroker{dir: filepath.Join(dir, strconv.Itoa(i+1)), addr: FreeAddr()}
		if o.Secure != nil {
			b.secure = FreeAddr()
		}
		controllers[i] = FreeAddr()
		k.brokers = append(k.brokers, b)
	}
	for i, b := range k.brokers {
		if err := os.MkdirAll(b.dir, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(b.dir, "server.properties"), b.properties(i+1, controllers, o), 0o600); err != nil {
			return nil, err
		}
	}
	if err := k.format(o); err != nil {
		return nil, err
	}
	for _, b := range k.brokers {
		if err := b.start(lib); err != nil {
			return nil, err
		}
		t.Cleanup(b.end)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := k.WaitReady(ctx, n); err != nil {
		for _, b := range k.brokers {
			b.end()
		}
		return nil, err
	}
	return k, nil
}

// end kills the broker, paused or not.
func (b *kafkaBroker) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = b.proc.signal(syscall.SIGKILL) // it may have ended already
	<-b.proc.done
}

// format writes each broker's storage, all at once since each takes a JVM.
func (k *KafkaCluster) format(o *KafkaOptions) error {
	errs := make([]error, len(k.brokers))
	var wg sync.WaitGroup
	for i, b := range k.brokers {
		wg.Go(func() {
			args := []string{"format", "--cluster-id", "tickwireAAAAAAAAAAAAAA", "--config", filepath.Join(b.dir, "server.properties")}
			if s := o.Secure; s != nil {
				for _, mechanism := range []string{"SCRAM-SHA-256", "SCRAM-SHA-512"} {
					args = append(args, "--add-scram", fmt.Sprintf("%s=[name=%s,password=%s]", mechanism, s.Username, s.Password))
				}
			}
			if out, err := java(k.lib, "kafka.tools.StorageTool", args...).CombinedOutput(); err != nil {
				errs[i] = fmt.Errorf("format storage: %w: %s", err, out)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (b *kafkaBroker) properties(id int, controllers []string, o *KafkaOptions) []byte {
	n := len(controllers)
	voters := make([]string, n)
	for i, addr := range controllers {
		voters[i] = fmt.Sprintf("%d@%s", i+1, addr)
	}
	listeners := "PLAINTEXT://" + b.addr
	if b.secure != "" {
		listeners += ",SECURE://" + b.secure
	}
	replicas, inSync := strconv.Itoa(n), strconv.Itoa(max(1, n-1))
	p := map[string]string{
		"process.roles": "broker,controller", "node.id": strconv.Itoa(id), "controller.quorum.voters": strings.Join(voters, ","),
		"listeners": listeners + ",CONTROLLER://" + controllers[id-1], "advertised.listeners": listeners,
		"listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL",
		"controller.listener.names":      "CONTROLLER", "inter.broker.listener.name": "PLAINTEXT",
		"log.dirs": filepath.Join(b.dir, "data"), "auto.create.topics.enable": "false", "num.partitions": "1",
		"offsets.topic.num.partitions": "4", "offsets.topic.replication.factor": replicas,
		"transaction.state.log.num.partitions": "4", "transaction.state.log.replication.factor": replicas,
		"transaction.state.log.min.isr":                    inSync,
		"share.coordinator.state.topic.num.partitions":     "1",
		"share.coordinator.state.topic.replication.factor": replicas,
		"group.initial.rebalance.delay.ms":                 "0", "group.min.session.timeout.ms": "1000",
		// Quick failover: a dead broker is noticed after 3 s.
		"broker.session.timeout.ms": "3000", "broker.heartbeat.interval.ms": "500",
		"controller.quorum.election.timeout.ms": "500", "controller.quorum.fetch.timeout.ms": "1000",
		"controller.quorum.request.timeout.ms": "1000", "replica.lag.time.max.ms": "3000",
		"num.network.threads": "2", "num.io.threads": "4", "background.threads": "2", "log.cleaner.dedupe.buffer.size": "8388608",
	}
	if s := o.Secure; s != nil {
		maps.Copy(p, s.properties())
	}
	maps.Copy(p, o.Config)
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(p)) {
		text = fmt.Appendf(text, "%s=%s\n", name, p[name])
	}
	return text
}

func (s *KafkaSecurity) properties() map[string]string {
	oneLine := func(pem string) string { return strings.ReplaceAll(strings.TrimSpace(pem), "\n", "\\n") }
	const listener = "listener.name.secure."
	scram := fmt.Sprintf(`org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";`, s.Username, s.Password)
	return map[string]string{
		listener + "ssl.keystore.type":              "PEM",
		listener + "ssl.keystore.certificate.chain": oneLine(s.CertPEM),
		listener + "ssl.keystore.key":               oneLine(s.KeyPEM),
		listener + "sasl.enabled.mechanisms":        "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		listener + "plain.sasl.jaas.config": fmt.Sprintf(
			`org.apache.kafka.common.security.plain.PlainLoginModule required user_%s="%s";`, s.Username, s.Password),
		listener + "scram-sha-256.sasl.jaas.config": scram,
		listener + "scram-sha-512.sasl.jaas.config": scram,
	}
}

// FreeAddr finds a port below 32768, where the kernel takes none for outgoing connections.
func FreeAddr() string {
	for {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000))) //nolint:gosec // any port will do
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close() // it has accepted nothing
			return addr
		}
	}
}

// kafkaJars returns the folder with Kafka's jars, fetched with Maven once.
func kafkaJars() (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	lib := filepath.Join(cache, "kafka-"+KafkaVersion)
	if _, err := os.Stat(lib); err == nil {
		return lib, nil
	}
	if err := os.MkdirAll(cache, 0o750); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "kafka-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }() // only a cache
	if err := fetchJars(tmp); err != nil {
		return "", err
	}
	// Another test may have been quicker; then there is the same.
	if err := os.Rename(filepath.Join(tmp, "lib"), lib); err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return "", err
	}
	return lib, nil
}

// cacheDir is TICKWIRE_CACHE, the checkout's .cache, or the user's cache folder.
func cacheDir() (string, error) {
	if dir := os.Getenv("TICKWIRE_CACHE"); dir != "" {
		return dir, nil
	}
	if root, err := repository(); err == nil {
		return filepath.Join(root, ".cache"), nil
	}
	dir, err := os.UserCacheDir()
	return filepath.Join(dir, "tickwire"), err
}

const pom = `<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tickwire</groupId><artifactId>kafka</artifactId><version>1</version>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>` + KafkaVersion + `</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
`

func fetchJars(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "pom.xml"), []byte(pom), 0o600); err != nil {
		return err
	}
	cmd := exec.Command("mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory="+filepath.Join(dir, "lib")) //nolint:gosec // our own arguments
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mvn: %w: %s", err, out)
	}
	return nil
}
