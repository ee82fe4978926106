package conf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/tickwire/tickwire/pkg/stream"
)

// Kafka says how a service reaches its Kafka cluster.
type Kafka struct {
	Brokers      []string // host:port of some brokers of the cluster
	TLS          bool
	CAFile       string // PEM; empty means the system's
	CertFile     string // PEM; client certificate, with KeyFile
	KeyFile      string
	Mechanism    string // "", plain, scram-sha-256 or scram-sha-512
	Username     string
	PasswordFile string
	Topics       stream.Topics // the zero value means stream.DefaultTopics
}

// RegisterFlags defines the --kafka… flags.
func (k *Kafka) RegisterFlags(fs *pflag.FlagSet) {
	fs.StringSliceVar(&k.Brokers, "kafka", k.Brokers, "Kafka brokers, `HOST:PORT,…`")
	fs.BoolVar(&k.TLS, "kafka-tls", k.TLS, "speak TLS to Kafka")
	fs.StringVar(&k.CAFile, "kafka-ca", k.CAFile, "PEM `FILE` with the authorities that sign the brokers' certificates (default: the system's)")
	fs.StringVar(&k.CertFile, "kafka-cert", k.CertFile, "PEM `FILE` with our client certificate")
	fs.StringVar(&k.KeyFile, "kafka-key", k.KeyFile, "PEM `FILE` with the key of --kafka-cert")
	fs.StringVar(&k.Mechanism, "kafka-sasl", k.Mechanism, "SASL `MECHANISM`: plain, scram-sha-256 or scram-sha-512 (default: none)")
	fs.StringVar(&k.Username, "kafka-username", k.Username, "SASL user `NAME`")
	fs.StringVar(&k.PasswordFile, "kafka-password-file", k.PasswordFile, "`FILE` whose content is the SASL password")
	if k.Topics == (stream.Topics{}) {
		k.Topics = stream.DefaultTopics()
	}
	fs.StringVar(&k.Topics.Raw, "raw-topic", k.Topics.Raw, "`NAME` of the Kafka topic with raw records")
	fs.StringVar(&k.Topics.Events, "events-topic", k.Topics.Events, "`NAME` of the Kafka topic with events")
	fs.StringVar(&k.Topics.Snapshots, "snapshots-topic", k.Topics.Snapshots, "`NAME` of the compacted Kafka topic with snapshots")
	fs.StringVar(&k.Topics.Quarantine, "quarantine-topic", k.Topics.Quarantine, "`NAME` of the Kafka topic with records that could not be used")
}

// Validate says which flag is wrong.
func (k *Kafka) Validate() error {
	for _, b := range k.Brokers {
		if !strings.Contains(b, ":") {
			return fmt.Errorf("--kafka: %q is not HOST:PORT", b)
		}
	}
	switch {
	case len(k.Brokers) == 0:
		return errors.New("--kafka: name at least one broker, HOST:PORT")
	case k.Topics.Raw == "" || k.Topics.Events == "" || k.Topics.Snapshots == "" || k.Topics.Quarantine == "":
		return errors.New("--raw-topic, --events-topic, --snapshots-topic and --quarantine-topic must not be empty")
	case (k.CertFile == "") != (k.KeyFile == ""):
		return errors.New("--kafka-cert and --kafka-key go together")
	case !k.TLS && (k.CAFile != "" || k.CertFile != ""):
		return errors.New("--kafka-ca and --kafka-cert need --kafka-tls")
	case k.Mechanism != "" && k.Username == "":
		return errors.New("--kafka-sasl needs --kafka-username")
	case k.Mechanism == "" && k.Username != "":
		return errors.New("--kafka-username needs --kafka-sasl")
	}
	return nil
}

// Stream reads the files that k names and returns what pkg/stream wants.
func (k *Kafka) Stream(clientID string) (stream.Config, error) {
	cfg := stream.Config{Brokers: k.Brokers, ClientID: clientID, Topics: k.Topics}
	if k.TLS {
		t, err := k.tls()
		if err != nil {
			return cfg, err
		}
		cfg.TLS = t
	}
	if k.Mechanism == "" {
		return cfg, nil
	}
	cfg.SASL.Mechanism, cfg.SASL.Username = k.Mechanism, k.Username
	if k.PasswordFile != "" {
		b, err := os.ReadFile(k.PasswordFile)
		if err != nil {
			return cfg, fmt.Errorf("--kafka-password-file: %w", err)
		}
		cfg.SASL.Password = strings.TrimRight(string(b), "\r\n")
	}
	return cfg, nil
}

func (k *Kafka) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if k.CAFile != "" {
		pem, err := os.ReadFile(k.CAFile)
		if err != nil {
			return nil, fmt.Errorf("--kafka-ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--kafka-ca: no certificate in %s", k.CAFile)
		}
	}
	if k.CertFile != "" {
		cert, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("--kafka-cert: %w", err)
		}
		t.Certificates = []tls.Certificate{cert}
	}
	return t, nil
}
