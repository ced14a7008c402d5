package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/savedmodel"
	"inceptor/service"
	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
)

type demoCmd struct {
	Photos  string `help:"Photos to send. Default: those of the installation." type:"existingdir" placeholder:"DIR"`
	Once    bool   `help:"End once every photo is answered."`
	Browser bool   `help:"Open the page in a browser."`
	Verbose bool   `short:"v" help:"Show the service's whole log."`
	Port    int    `default:"9092" help:"Port of the broker, or else a free one."`

	service.Config `embed:""`
}

// Help is the long help.
func (*demoCmd) Help() string {
	return `The broker runs in memory and listens on 127.0.0.1, so kafka.brokers, kafka.tls and kafka.sasl ` +
		`have no effect. There is no journal unless --crash.journal names one. Example:

	inceptor demo --model.dir savedmodel/inception --photos .tools/photos`
}

// Validate returns every problem of the settings that the demo does not choose itself.
func (c *demoCmd) Validate() []error {
	c.Photos = cmp.Or(c.Photos, installed("photos"))
	c.Model.Dir = cmp.Or(c.Model.Dir, installed(installedModel))
	s := c.Config
	useBroker(&s.Kafka, "localhost:9092")
	s.Input.Files.Root = cmp.Or(s.Input.Files.Root, c.Photos)
	problems := s.Validate()
	if c.Photos == "" {
		problems = append(problems, errors.New("photos: must name a folder with photos"))
	}
	return problems
}

// installedModel is the name of the model that an installation has.
const installedModel = "efficientnet"

// installed returns the path of what an installation has for the demo, or "" if the program was not
// installed.
func installed(name string) string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	path := filepath.Join(filepath.Dir(exe), "..", "share", "inceptor", name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// WithoutEffect returns the settings that have no effect, and why.
func (c *demoCmd) WithoutEffect() map[string]string {
	reasons := c.Config.WithoutEffect()
	for _, name := range []string{"kafka.brokers", "kafka.tls.", "kafka.sasl."} {
		reasons[name] = "the demo has a broker of its own"
	}
	return reasons
}

// useBroker makes a broker in this process the only one. It has neither TLS nor a login.
func useBroker(k *service.Kafka, address string) {
	k.Brokers, k.TLS, k.SASL = []string{address}, service.TLS{}, service.SASL{Mechanism: "none"}
}

func (c *demoCmd) Run(ctx context.Context, a *app) error {
	broker, err := embedded.Start(c.Port, 2, c.Kafka.Input...)
	if err != nil {
		return err
	}
	defer broker.Close()
	if err := c.choose(broker.Addr()); err != nil {
		return err
	}
	if a.given.Origin("http.thumbnails") == (settings.Origin{}) {
		c.HTTP.Thumbnails = true // of photos that are there to be shown
	}
	if c.Model.Dir == installed(installedModel) && a.given.Origin("model.name") == (settings.Origin{}) {
		c.Model.Name = installedModel
	}
	photos, err := readPhotos(c.Photos, c.Kafka.Input[0])
	if err != nil {
		return err
	}
	screen := newScreen(a.stdout, c, broker.Addr())
	screen.begin(len(photos))
	log := a.log
	if !c.Verbose {
		log = slog.New(newNotices(a.stderr, log.Handler()))
		if err := c.openLibrary(a); err != nil {
			return err
		}
	}

	life, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, screen.interrupted)()
	g, life := errgroup.WithContext(life)
	g.Go(func() error {
		defer stop() // without the service there are no answers to wait for
		return serve(life, c.Config, log, a.level)
	})
	if c.Browser {
		g.Go(func() error { return ignoreEnd(life, openPage(life, c.HTTP.Listen, a)) })
	}
	g.Go(func() error { return ignoreEnd(life, broker.Send(life, photos...)) })
	g.Go(func() error {
		answered := 0
		return broker.Follow(life, func(r stream.Record) bool {
			screen.record(r)
			if answered++; answered != len(photos) {
				return true
			}
			if c.Once {
				stop()
				return false
			}
			screen.hints(filepath.Base(string(photos[0].Key)))
			return true
		}, c.Kafka.Output, c.Kafka.DeadLetter)
	})
	err = g.Wait()
	if ctx.Err() == nil || err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	screen.ended()
	return nil
}

// choose replaces the settings that are otherwise for a demo than for a service.
func (c *demoCmd) choose(broker string) (err error) {
	useBroker(&c.Kafka, broker)
	c.Kafka.CreateTopics = true
	if c.Input.Files.Root == "" {
		if c.Input.Files.Root, err = filepath.Abs(c.Photos); err != nil {
			return err
		}
	}
	if c.Crash.Journal == "" {
		c.Crash.Journal = "off" // its records would be gone with the broker
	}
	if c.Kafka.Window.Records == 0 {
		c.Kafka.Window.Records = 8 // so that few are in flight when the demo is interrupted
	}
	c.HTTP.Listen, err = freeAddress(c.HTTP.Listen)
	return err
}

// openLibrary opens TensorFlow's library, without its greetings.
func (c *demoCmd) openLibrary(a *app) error {
	if c.Model.Backend != model.OnlyLocal {
		return nil // without a library the model server answers
	}
	return withoutGreetings(a.stderr, func() error { return savedmodel.OpenLibrary(c.TensorFlow.Library) })
}

// readPhotos reads the images in a folder as records. The keys are the files' names.
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
		return nil, fmt.Errorf("no photo in %s: want one of %s", dir, strings.Join(extensions, ", "))
	}
	return records, nil
}

// freeAddress returns the address, or one with another port if that port is in use.
func freeAddress(address string) (string, error) {
	if address == "" {
		return "", nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address, nil // Validate gives the better error
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
