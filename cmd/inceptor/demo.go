package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"inceptor/service"
	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

type demoCmd struct {
	Photos string `help:"Folder with photos to send." required:"" type:"existingdir" placeholder:"DIR"`
	Once   bool   `help:"End when every photo is answered."`
	Port   int    `default:"9092" help:"Port of the broker; another one is taken if it is in use."`

	service.Config `embed:""`
}

// Help is the long help.
func (*demoCmd) Help() string {
	return `The broker lives in memory, in this process, and listens on 127.0.0.1: kcat and other clients can send images and read predictions ` +
		`until the demo is interrupted. Settings are those of run; --kafka.brokers has no effect.`
}

func (c *demoCmd) Run(ctx context.Context, a *app) error {
	k := &c.Kafka
	broker, err := embedded.Start(c.Port, 2, k.Input...)
	if err != nil {
		return err
	}
	defer broker.Close()
	k.Brokers, k.CreateTopics = []string{broker.Addr()}, true
	if c.Input.Files.Root == "" {
		if c.Input.Files.Root, err = filepath.Abs(c.Photos); err != nil {
			return err
		}
	}
	if c.HTTP.Listen, err = freeAddress(c.HTTP.Listen); err != nil {
		return err
	}
	if problems := c.Validate(); len(problems) > 0 {
		return usageError{problems}
	}
	photos, err := readPhotos(c.Photos, k.Input[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "Broker on %s, %d photos from %s; the model is loading.\n\n", broker.Addr(), len(photos), c.Photos)

	life, stop := context.WithCancel(ctx)
	defer stop()
	g, life := errgroup.WithContext(life)
	g.Go(func() error {
		defer stop() // a service that has ended answers nobody
		return serve(life, c.Config, a.log)
	})
	g.Go(func() error { return ignoreEnd(life, broker.Send(life, photos...)) })
	g.Go(func() error {
		answered := 0
		return broker.Follow(life, func(r stream.Record) bool {
			fmt.Fprintln(a.stdout, line(r, k.DeadLetter))
			if answered++; answered != len(photos) {
				return true
			}
			if c.Once {
				stop()
				return false
			}
			c.printHints(a.stdout, filepath.Base(string(photos[0].Key)))
			return true
		}, k.Output, k.DeadLetter)
	})
	return g.Wait()
}

func (c *demoCmd) printHints(w io.Writer, photo string) {
	broker := c.Kafka.Brokers[0]
	fmt.Fprintf(w, `
Now send one of your own, from another terminal (apt-get install kcat):
  kcat -P -b %[1]s -t %[2]s -k mine PHOTO.jpg
or name one of the samples:
  echo %[5]s | kcat -P -b %[1]s -t %[2]s
and read the answers, and what could not be answered:
  kcat -C -b %[1]s -t %[3]s -e
  kcat -C -b %[1]s -t %[4]s -e -f '%%k: %%h\n'
`, broker, c.Kafka.Input[0], c.Kafka.Output, c.Kafka.DeadLetter, photo)
	if c.HTTP.Listen != "" {
		fmt.Fprintf(w, "Page: http://%s   Metrics: http://%s/metrics\n", c.HTTP.Listen, c.HTTP.Listen)
	}
	fmt.Fprintln(w, "Ctrl-C ends the demo.")
}

// readPhotos reads the images of a folder as records, with their names as keys.
func readPhotos(dir, topic string) ([]stream.Record, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	extensions := []string{".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
	var records []stream.Record
	for _, e := range entries {
		if !slices.Contains(extensions, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		image, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		records = append(records, stream.Record{Topic: topic, Key: []byte(e.Name()), Value: image})
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s holds no photo (%s)", dir, strings.Join(extensions, ", "))
	}
	return records, nil
}

// line is an output record as a person wants to see it.
func line(r stream.Record, deadLetter string) string {
	name := string(r.Key)
	if name == "" {
		name = headerValue(r, "inceptor-id")
	}
	name = printable(name)
	if r.Topic == deadLetter {
		return fmt.Sprintf("%-22s dead letter: %s", name, printable(headerValue(r, "inceptor-error")))
	}
	var a service.Answer
	if err := json.Unmarshal(r.Value, &a); err != nil {
		return fmt.Sprintf("%-22s %s", name, printable(err.Error()))
	}
	i := cmp.Or(a.Image, &service.Image{})
	return fmt.Sprintf("%-22s %-34s %-15s wait %6.1f ms   decode %5.1f ms   infer %6.1f ms",
		name, said(a, 2), image(i.Format, i.Width, i.Height), a.Timings.Wait, a.Timings.Decode, a.Timings.Infer)
}

func headerValue(r stream.Record, key string) string {
	for _, h := range slices.Backward(r.Headers) {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// freeAddress returns the address, with another port if that one is taken.
func freeAddress(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address, nil // Validate says it better
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		if l, err = net.Listen("tcp", net.JoinHostPort(host, "0")); err != nil {
			return "", err
		}
	}
	defer l.Close()
	return net.JoinHostPort(host, strconv.Itoa(l.Addr().(*net.TCPAddr).Port)), nil
}
