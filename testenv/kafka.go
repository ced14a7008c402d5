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
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A Kafka is a real Apache Kafka of one node, a process with ports of
// 127.0.0.1 of its own.
type Kafka struct {
	lib   string // folder of jars
	dir   string // configuration, log and data
	addr  string
	id    string   // of its cluster, which no other test has
	heap  string   // most of the JVM, as -Xmx takes it
	flags []string // of the JVM, besides
	java  *exec.Cmd
	gone  chan struct{} // closed when java has ended
}

// StartKafka starts a broker from the jars in lib, which keeps everything in
// the empty folder dir, and waits until it answers. Kill ends it, and so does
// the end of this process. Properties, "key=value", come on top of those that
// make one node start, recover and rebalance fast.
func StartKafka(ctx context.Context, lib, dir string, properties ...string) (*Kafka, error) {
	return startKafka(ctx, lib, dir, nil, nil, nil, properties)
}

// A listener is one beside that in the clear.
type listener struct{ name, protocol, address, advertised string }

// startKafka is StartKafka with further listeners, flags for the JVM, and
// arguments for the formatting of the storage.
func startKafka(ctx context.Context, lib, dir string, listeners []listener, flags, format, properties []string) (*Kafka, error) {
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
	if err := k.format(1, ports[1], listeners, format, properties); err != nil {
		return nil, err
	}
	return k, k.Restart(ctx)
}

// format writes the configuration of a broker, which is a controller, too, and
// makes its storage.
func (k *Kafka) format(node int, controller string, listeners []listener, args, properties []string) error {
	if jars, _ := filepath.Glob(filepath.Join(k.lib, "kafka_*.jar")); len(jars) == 0 {
		return fmt.Errorf("no Kafka broker in %s: run `make setup`", k.lib)
	}
	if strings.Contains(k.dir, ",") {
		return fmt.Errorf("a broker's data cannot be in %s: log.dirs is a list with commas", k.dir)
	}
	lib, err := filepath.Abs(k.lib)
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

// formatted is the storage of the first broker that was made without further
// arguments. That of others differs in its ids alone, and a JVM for each takes
// two seconds.
var formatted struct {
	sync.Mutex
	bootstrap []byte // the file with the features
}

// makeStorage makes the folder of a broker's data.
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

// Addr is where clients connect, host:port.
func (k *Kafka) Addr() string { return k.addr }

// Pid is the process's number.
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

// Stop ends the broker as an administrator does: it gives its partitions away,
// if there is another one that can lead them. It is killed if that takes long.
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

// Restart starts a broker that has ended, and waits until it answers; one
// that does not is killed.
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

// startLimit is how long a broker may take until it answers, several of them
// on a busy machine.
const startLimit = 2 * time.Minute

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

// Log is the file that holds the first records of a partition.
func (k *Kafka) Log(topic string, partition int) string {
	return filepath.Join(k.dir, "data", fmt.Sprintf("%s-%d", topic, partition), fmt.Sprintf("%020d.log", 0))
}

// Signal sends its process a signal.
func (k *Kafka) Signal(s syscall.Signal) error { return k.java.Process.Signal(s) }

func (k *Kafka) config() string { return filepath.Join(k.dir, "server.properties") }
func (k *Kafka) log() string    { return filepath.Join(k.dir, "log") }

// command runs a main class of Kafka's, one core's worth of JVM, which dies
// with this process.
func (k *Kafka) command(class string, args ...string) *exec.Cmd {
	cmd := exec.Command("java", slices.Concat([]string{
		"-Xmx" + k.heap, "-Djava.io.tmpdir=" + k.dir, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
	}, k.flags, []string{"-cp", filepath.Join(k.lib, "*"), class}, args)...)
	cmd.Dir = k.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// newID is a random UUID as Kafka writes it, which must not look like an
// option.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	b[0] = 'k'
	return base64.RawURLEncoding.EncodeToString(b)
}

// await waits until the broker answers. Its port was free when it was chosen,
// so that another one may have it by now: that one's answer does not count.
func (k *Kafka) await(ctx context.Context, limit time.Duration) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(k.addr))
	if err != nil {
		return err
	}
	defer client.Close()
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		pingCtx, cancel := context.WithTimeout(ctx, time.Second)
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

// given are the ports that this process has been given: a broker needs seconds
// until it listens.
var given sync.Map

// Ports from firstPort up to firstEphemeral are given to brokers. The system gives
// those above, by default on Linux, to outgoing connections and to listeners on
// port 0: to one of these a broker could lose its port before it listens, or
// while it is down.
const (
	firstPort      = 10_000
	firstEphemeral = 32_768
)

// freePorts finds ports of 127.0.0.1 that nobody listens on, each only once.
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
