package browser

import (
	"fmt"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"inceptor/service/page"
	"inceptor/service/page/pagetest"
)

// addRecord adds a record as the latest.
func addRecord(id string) func(*page.View) {
	return func(v *page.View) {
		r := v.Records[5]
		r.ID, r.State = id, page.StateAnswered
		v.Records = append([]page.Record{r}, v.Records[:page.MaxRecords-1]...)
	}
}

func publish(id string) func(*page.View) {
	return func(v *page.View) {
		for i := range v.Records {
			if v.Records[i].ID == id {
				v.Records[i].State = page.StatePublished
			}
		}
	}
}

func TestLiveUpdate(t *testing.T) {
	source := newSource()
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	value[bool](p, `window.notReloaded = true`)

	source.Change(addRecord("ImageInputTopic-1-99999"))
	p.shows("#records tr#record-ImageInputTopic-1-99999", "answered")
	p.shows("#wall li#picture-ImageInputTopic-1-99999", "0.")
	source.Change(publish("ImageInputTopic-1-99999"))
	p.shows("#records tr#record-ImageInputTopic-1-99999", "published")
	source.AddSample(page.Sample{At: time.Now(), Records: 4321, Lag: -1})
	p.shows("#summary", "4\u202f321")
	if !value[bool](p, `window.notReloaded === true`) {
		t.Error("the page was loaded again, and should only have changed")
	}
	if broken := value[int](p, `[...document.images].filter(i => i.complete && !i.naturalWidth).length`); broken != 0 {
		t.Errorf("%d pictures are broken", broken)
	}
}

func TestBrokerGone(t *testing.T) {
	source := newSource()
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.await(`document.title === 'inceptor: ready'`)
	source.Change(pagetest.BrokerGone)
	p.shows("#problems", "The broker 127.0.0.1:9092 does not answer")
	p.shows("#records tbody tr", "answered")
	p.await(`document.title === 'inceptor: ready, 2 problems'`)
	p.await(`document.querySelector('main > :not(:empty)').id === 'problems'`) // first
	if size := value[float64](p, `parseFloat(getComputedStyle(document.querySelector('.what')).fontSize)`); size < 17 {
		t.Errorf("the problem is written in %g px, and should be larger than the rest", size)
	}
	source.Change(func(v *page.View) { v.Problems = nil })
	p.await(`document.querySelector('#problems').innerText.trim() === ''`)
}

func TestServiceGone(t *testing.T) {
	url, _ := serve(t, newSource(), true)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	// As if the service had stopped: its connection ends, and there is no other for a while.
	value[chromedp.Void](p, `
		window.mayConnect = false;
		const again = connect;
		connect = () => window.mayConnect ? again() : setTimeout(connect, 100);
		stream.close();
		stream.onerror();
		undefined`)
	p.await(`!document.querySelector('#connection').hidden`)
	p.shows("#connection", "No connection since")
	value[bool](p, `window.mayConnect = true`)
	p.await(`document.querySelector('#connection').hidden`) // it connects again by itself
}

// The page is there before anything else is.
func TestStarting(t *testing.T) {
	source := newSource()
	source.Show(pagetest.Starting)
	source.Forget()
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	p.shows("#head", "not ready")
	p.shows("#problems", "Version 1 is loading")
	p.legible(desk)
	p.shoot("starting-desk")
	source.AddSample(page.Sample{At: time.Now(), Records: 3, P50: 40, P99: 50})
	source.Show(func(*page.View) {})
	p.await(`[...document.querySelectorAll('#charts .u-value')].some(v => v.innerText === '40 ms')`)
	p.shows("#records", "published")
}

func TestSwap(t *testing.T) {
	source := newSource()
	url, changes := serve(t, source, true)
	p := open(t, url, desk)
	source.Change(pagetest.Swap)
	p.shows("#versions", "warming")
	p.shows("#versions .bad", "the signature serving_default has 10 classes")
	source.Change(pagetest.Swapped)
	p.shows("#versions .good", "2 min 30 s more")
	p.shows(".timeline", "Version 3 serves, in place of version 2")
	p.shows("#head", "version 3")

	confirm := func(answer bool) {
		value[chromedp.Void](p, fmt.Sprintf(`window.confirm = question => %t; undefined`, answer))
	}
	confirm(false)
	p.run(chromedp.Click("#use-2"))
	confirm(true)
	for button, want := range map[string]string{"#rollback-3": "/models/rollback?version=3", "#use-2": "/models/use?version=2"} {
		p.run(chromedp.Click(button))
		select {
		case change := <-changes:
			if change != want {
				t.Errorf("the button %s sent %s, want %s", button, change, want)
			}
		case <-time.After(patience):
			t.Errorf("the button %s sent nothing", button)
		}
		p.shows("#notice", "a restart forgets it") // what the service answers
	}
	if len(changes) != 0 {
		t.Errorf("what was not confirmed was sent too: %s", <-changes)
	}
}

func TestRemoteViewerHasNoButtons(t *testing.T) {
	source := newSource()
	source.Change(pagetest.Swapped)
	url, _ := serve(t, source, false)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	if n := value[int](p, `document.querySelectorAll('button, form').length`); n != 0 {
		t.Errorf("a viewer at another machine sees %d buttons", n)
	}
}

func TestCanary(t *testing.T) {
	source := newSource()
	source.Change(pagetest.Canary)
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.shows("#versions .accent", "serving, canary")
	p.shows("#versions .accent", "98.2% of 1\u202f240 records")
}

// contrast returns the texts on the page that WCAG AA would refuse, with their contrast.
const contrast = `(() => {
  const parse = c => { const n = c.match(/[\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const luminance = c => { const l = c.slice(0, 3).map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; node = walker.nextNode();) {
    const e = node.parentElement, style = getComputedStyle(e);
    if (!node.data.trim() || !e.getClientRects().length || style.visibility === 'hidden') continue;
    const [a, b] = [luminance(parse(style.color)), luminance(ground(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700;
    if (ratio < (large ? 3 : 4.5)) bad.push(node.data.trim() + ' ' + ratio.toFixed(2));
  }
  return [...new Set(bad)];
})()`

// legible checks that a page can be read: its texts have contrast, and it is not wider than what it
// is shown on.
func (p *tab) legible(l look) {
	p.Helper()
	for _, fault := range value[[]string](p, contrast) {
		p.Errorf("too little contrast: %s", fault)
	}
	if width := value[int64](p, `document.documentElement.scrollWidth`); width > l.width {
		p.Errorf("the page is %d px wide, and the window %d; it is as wide as: %s", width, l.width, value[string](p,
			`[...document.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.tagName + '.' + e.className).join(' ')`))
	}
}

// The states in which the page is looked at. The test also takes the screenshots for people.
func TestLooks(t *testing.T) {
	for _, l := range []look{
		{"desk", 1400, false, true}, {"desk-dark", 1400, true, true}, {"phone", 390, false, true}, {"phone-dark", 390, true, true},
	} {
		t.Run(l.name, func(t *testing.T) {
			source := newSource()
			url, _ := serve(t, source, true)
			p := open(t, url, l)
			p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
			ground := value[string](p, `getComputedStyle(document.body).backgroundColor`)
			if want := map[bool]string{false: "rgb(244, 246, 248)", true: "rgb(14, 17, 22)"}[l.dark]; ground != want {
				t.Errorf("the ground is %s, want %s", ground, want)
			}
			for name, state := range map[string]func(*page.View){
				"load": func(*page.View) {}, "broker": pagetest.BrokerGone, "swap": pagetest.Swap, "canary": pagetest.Canary, "hostile": pagetest.Hostile,
			} {
				source.Show(func(v *page.View) {
					state(v)
					v.Version = "in state " + name
				})
				p.shows("#head", "in state "+name)
				p.await(`[...document.images].every(i => i.complete)`)
				p.legible(l)
				if height := value[int](p, `document.documentElement.scrollHeight`); l.width < 500 && name != "hostile" && height > 5000 {
					t.Errorf("%s: the page is %d px tall on a phone", name, height)
				}
				p.shoot(fmt.Sprintf("%s-%s", name, l.name))
			}
			p.run(chromedp.Navigate(url + "/records/" + source.View().Records[3].ID))
			p.legible(l)
			p.shoot("record-" + l.name)
		})
	}
}

func TestNoJavaScript(t *testing.T) {
	source := newSource()
	source.Change(pagetest.BrokerGone)
	url, changes := serve(t, source, true)
	p := open(t, url, plain)
	for selector, want := range map[string]string{
		"#head": "ready", "#problems": "does not answer", "#summary": "Records a second", "#versions": "serving, stable", "#partitions": "are stuck",
		"#memory": "library", "#records": "dead letter", "#charts": "JavaScript",
	} {
		if text := p.text(selector); !contains(text, want) {
			t.Errorf("%s shows %q, and not %q", selector, text, want)
		}
	}
	p.run(chromedp.Click("#resting-summary"), chromedp.Click("#use-1"))
	select {
	case change := <-changes:
		if change != "/models/use?version=1" {
			t.Errorf("the button sent %s", change)
		}
	case <-time.After(patience):
		t.Error("the button sent nothing")
	}
	p.run(chromedp.WaitVisible("#records"), chromedp.Click("#records tbody a"), chromedp.WaitVisible("pre"))
	if text := p.text("main"); !contains(text, "kcat -b") || !contains(text, "infer") {
		t.Errorf("the record's page shows %q", text)
	}
}

func TestHostileTexts(t *testing.T) {
	source := newSource()
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	source.Change(pagetest.Hostile)
	source.AddSample(page.Sample{At: time.Now(), DeadLetters: map[string]float64{pagetest.Attack: 1}})
	for _, selector := range []string{"#head", "#problems", "#versions", "#partitions", "#records", ".timeline", "#charts"} {
		p.shows(selector, pagetest.Attack[:20]) // as text
	}
	p.run(chromedp.Navigate(url)) // and in the whole page
	p.shows("#records", pagetest.Attack[:20])
	p.run(chromedp.Navigate(url + "/records/" + source.View().Records[0].ID))
	p.shows("main", pagetest.Attack[:20])
	for _, path := range []string{"/", "/records/" + source.View().Records[0].ID} {
		p.run(chromedp.Navigate(url + path))
		if value[bool](p, `'attacked' in window`) {
			t.Errorf("a text from outside ran as a script on %s", path)
		}
		if n := value[int](p, `document.querySelectorAll('script:not([src]), [onerror], [onload], img[src="x"]').length`); n != 0 {
			t.Errorf("%d elements came out of a text on %s", n, path)
		}
	}
}

func TestKeyboard(t *testing.T) {
	source := newSource()
	source.Change(pagetest.Swapped)
	url, _ := serve(t, source, true)
	p := open(t, url, desk)
	p.await(`document.querySelectorAll('[data-chart] canvas').length === 5`)
	p.run(chromedp.Focus("#use-2"))
	source.Change(func(v *page.View) { v.Versions[1].Trying = "something new" })
	p.shows("#versions", "something new")
	if id := value[string](p, `document.activeElement.id`); id != "use-2" {
		t.Errorf("the focus is on %q after an update, and was on use-2", id)
	}
	// A list that moves is held while the focus is in it.
	first := source.View().Records[0].ID
	p.run(chromedp.Focus("#to-record-" + first))
	source.Change(addRecord("ImageInputTopic-1-99999"))
	source.Change(func(v *page.View) { v.Versions[1].Trying = "something newer" })
	p.shows("#versions", "something newer")
	if !value[bool](p, `document.querySelector('#record-ImageInputTopic-1-99999') === null`) {
		t.Error("the list moved under the focus")
	}
	p.run(chromedp.KeyEvent(kb.Enter), chromedp.WaitVisible("pre"))
	if title := value[string](p, `document.title`); !contains(title, first) {
		t.Errorf("Enter opened %q", title)
	}
}
