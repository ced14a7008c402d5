package testenv

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
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

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Kafka is a real Apache Kafka broker, a process with ports of its own on 127.0.0.1. It is not
// for concurrent use.
type Kafka struct {
	// Set once.
	lib   string // folder of the jars
	dir   string // configuration, log and data
	addr  string
	id    string   // of its cluster, unique to the test
	heap  string   // largest heap of the JVM, as -Xmx takes it
	flags []string // further ones for the JVM

	// Set by each start.
	java *exec.Cmd
	gone chan struct{} // closed when java has ended
}

// StartKafka starts a broker from the jars in lib and waits until it answers. The broker keeps all
// its files in the empty folder dir. Kill ends it, and so does the end of this process. Properties,
// "key=value", are added to those that make a single node start, recover and rebalance fast.
func StartKafka(ctx context.Context, lib, dir string, properties ...string) (*Kafka, error) {
	return startKafka(ctx, lib, dir, nil, nil, nil, properties)
}

// A listener is one in addition to the plaintext listener.
type listener struct{ name, protocol, address, advertised string }

// startKafka is StartKafka with further listeners, flags for the JVM, and arguments for formatting
// the storage.
func startKafka(ctx context.Context, lib, dir string, listeners []listener, flags, format, properties []string) (*Kafka, error) {
	k, err := newKafka(lib, dir, listeners, flags, format, properties)
	if err != nil {
		return nil, err
	}
	return k, k.Restart(ctx)
}

// newKafka returns a broker that is ready to start.
func newKafka(lib, dir string, listeners []listener, flags, format, properties []string) (*Kafka, error) {
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	k := &Kafka{lib: lib, dir: dir, addr: ports[0], id: newID(), heap: "384m", flags: flags}
	properties = slices.Concat([]string{
		"controller.quorum.voters=1@" + ports[1],
		"num.partitions=1",
		"offsets.topic.num.partitions=1",
		"offsets.topic.replication.factor=1",
		"transaction.state.log.num.partitions=1",
		"transaction.state.log.replication.factor=1",
		"transaction.state.log.min.isr=1",
		"share.coordinator.state.topic.replication.factor=1",
		"share.coordinator.state.topic.min.isr=1",
	}, properties)
	return k, k.format(1, ports[1], listeners, format, properties)
}

// format writes the broker's configuration and formats its storage. The broker is also a
// controller.
func (k *Kafka) format(node int, controller string, listeners []listener, args, properties []string) error {
	if jars, _ := filepath.Glob(filepath.Join(k.lib, "kafka_*.jar")); len(jars) == 0 {
		return fmt.Errorf("no Kafka broker in %s: run `make setup`", k.lib)
	}
	if strings.Contains(k.dir, ",") {
		return fmt.Errorf("a broker's data cannot be in %s: log.dirs is a list with commas", k.dir)
	}
	lib, err := filepath.EvalSymlinks(k.lib) // the archive of classes holds the jars' real paths
	if err == nil {
		lib, err = filepath.Abs(lib)
	}
	if err != nil {
		return err
	}
	k.lib = lib
	var names, addresses, advertised string
	for _, l := range listeners {
		names += "," + l.name + ":" + l.protocol
		addresses += "," + l.name + "://" + l.address
		advertised += "," + l.name + "://" + l.advertised
	}
	properties = slices.Concat([]string{
		"process.roles=broker,controller",
		"node.id=" + strconv.Itoa(node),
		"controller.listener.names=CONTROLLER",
		"listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT" + names,
		"listeners=PLAINTEXT://" + k.addr + ",CONTROLLER://" + controller + addresses,
		"advertised.listeners=PLAINTEXT://" + k.addr + advertised,
		"log.dirs=" + filepath.Join(k.dir, "data"),
		"auto.create.topics.enable=false",
		"group.initial.rebalance.delay.ms=0",
		"broker.session.timeout.ms=3000", // else one killed hard is refused for 9 s when it comes back
		"broker.heartbeat.interval.ms=500",
	}, properties)
	if err := os.WriteFile(k.config(), []byte(strings.Join(properties, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return k.makeStorage(node, args)
}

// formatted keeps the storage of the first broker that was formatted without further arguments. The
// storage of others differs only in ids, and formatting it with a JVM takes two seconds.
var formatted struct {
	sync.Mutex
	bootstrap []byte // the file with the features
}

// makeStorage formats the folder of the broker's data.
func (k *Kafka) makeStorage(node int, args []string) error {
	formatted.Lock()
	defer formatted.Unlock()
	data := filepath.Join(k.dir, "data")
	properties, bootstrap := filepath.Join(data, "meta.properties"), filepath.Join(data, "bootstrap.checkpoint")
	if formatted.bootstrap != nil && len(args) == 0 {
		ids := fmt.Sprintf("version=1\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n", k.id, node, newID())
		return errors.Join(os.Mkdir(data, 0o700), os.WriteFile(properties, []byte(ids), 0o600), os.WriteFile(bootstrap, formatted.bootstrap, 0o600))
	}
	formatter := k.command("kafka.tools.StorageTool", append([]string{"format", "-t", k.id, "-c", k.config()}, args...)...)
	if out, err := formatter.CombinedOutput(); err != nil {
		return fmt.Errorf("format Kafka's storage: %w\n%s", err, out)
	}
	if len(args) > 0 {
		return nil
	}
	var err error
	formatted.bootstrap, err = os.ReadFile(bootstrap)
	return err
}

// Addr returns the address for clients, host:port.
func (k *Kafka) Addr() string { return k.addr }

// Pid returns the process id.
func (k *Kafka) Pid() int { return k.java.Process.Pid }

// Kill ends the broker like kill -9.
func (k *Kafka) Kill() {
	if k.java == nil {
		return
	}
	_ = k.java.Process.Kill() // it may have ended by itself
	<-k.gone
	k.java = nil
}

// Stop shuts the broker down as an administrator does: it hands its partitions over if another
// broker can lead them. A broker that takes longer than a minute is killed.
func (k *Kafka) Stop() {
	if k.java == nil {
		return
	}
	_ = k.java.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	select {
	case <-k.gone:
		k.java = nil
	case <-time.After(time.Minute):
		k.Kill()
	}
}

// Restart starts a broker that has ended, and waits until it answers. A broker that does not answer
// is killed.
func (k *Kafka) Restart(ctx context.Context) error {
	if err := k.launch(); err != nil {
		return err
	}
	if err := k.await(ctx, startLimit); err != nil {
		k.Kill()
		return err
	}
	return nil
}

// startLimit is how long a broker may take until it answers, while several start on a busy machine.
const startLimit = 5 * time.Minute

// launch starts the process.
func (k *Kafka) launch() error {
	log, err := os.OpenFile(k.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	java, gone := k.command("kafka.Kafka", k.config()), make(chan struct{})
	java.Stdout, java.Stderr = log, log
	if err := java.Start(); err != nil {
		return err
	}
	k.java, k.gone = java, gone
	go func() {
		defer close(gone)
		_ = java.Wait() // how it ended is in its log
	}()
	return nil
}

// Log returns the file with the first records of a partition.
func (k *Kafka) Log(topic string, partition int) string {
	return filepath.Join(k.dir, "data", fmt.Sprintf("%s-%d", topic, partition), fmt.Sprintf("%020d.log", 0))
}

// Signal sends a signal to the process.
func (k *Kafka) Signal(s syscall.Signal) error { return k.java.Process.Signal(s) }

func (k *Kafka) config() string { return filepath.Join(k.dir, "server.properties") }
func (k *Kafka) log() string    { return filepath.Join(k.dir, "log") }

// command runs one of Kafka's main classes, in a JVM for one core. The JVM ends with this process.
func (k *Kafka) command(class string, args ...string) *exec.Cmd {
	flags := slices.Concat([]string{
		"-Xmx" + k.heap, "-Djava.io.tmpdir=" + k.dir, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
	}, k.flags)
	if archive := classArchive(k.lib); exists(archive) {
		flags = append(flags, "-XX:SharedArchiveFile="+archive) // ignored if it fits another JVM
	}
	cmd := exec.Command("java", slices.Concat(flags, []string{"-cp", filepath.Join(k.lib, "*"), class}, args)...)
	cmd.Dir = k.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// newID returns a random UUID as Kafka writes it. It must not look like an option.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] = 'k'
	return base64.RawURLEncoding.EncodeToString(b)
}

// await waits until the broker answers. Another broker may have taken its port since it was chosen:
// an answer of that one does not count.
func (k *Kafka) await(ctx context.Context, limit time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.addr))
	if err != nil {
		return err
	}
	defer client.Close()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		pingCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
		found, err := kadm.NewClient(client).BrokerMetadata(pingCtx)
		cancel()
		if err == nil && found.Cluster == k.id {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("another broker answers at %s", k.addr)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-k.gone:
		default:
			if time.Now().Before(deadline) {
				continue
			}
		}
		out, _ := os.ReadFile(k.log())
		return fmt.Errorf("Kafka does not start: %w\n%s", err, out[max(0, len(out)-4000):])
	}
}

// given are the addresses that freePorts has returned. A broker needs seconds until it listens
// there.
var given sync.Map

// Brokers get ports from firstPort up to firstEphemeral. The ports above, by default on Linux, go
// to outgoing connections and to listeners on port 0: one of these could take a broker's port
// before the broker listens, or while it is down.
const (
	firstPort      = 10_000
	firstEphemeral = 32_768
)

// FreeAddress returns an address of 127.0.0.1 that nobody listens on, for a server of the test. The
// system will not give its port to a connection in the meantime.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	ports, err := freePorts(1)
	if err != nil {
		tb.Fatal(err)
	}
	return ports[0]
}

// freePorts returns n addresses of 127.0.0.1 that nobody listens on, each only once.
func freePorts(n int) ([]string, error) {
	var ports []string
	for tries := 0; len(ports) < n; tries++ {
		address := fmt.Sprintf("127.0.0.1:%d", firstPort+mathrand.IntN(firstEphemeral-firstPort))
		if _, again := given.LoadOrStore(address, true); again {
			continue
		}
		l, err := net.Listen("tcp", address)
		switch {
		case err == nil:
			defer l.Close()
			ports = append(ports, address)
		case tries > 1000:
			return nil, err
		}
	}
	return ports, nil
}
