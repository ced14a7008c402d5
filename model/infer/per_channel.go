package infer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// PerChannel is a number for each channel, in the model's order. In YAML and JSON it is one number
// if all are the same, else a list of three. A number in YAML may be a fraction, such as 1/255.
type PerChannel [3]float64

// same returns one number for all channels.
func same(x float64) PerChannel { return PerChannel{x, x, x} }

// uniform tells whether all channels have the same number.
func (p PerChannel) uniform() bool { return p == same(p[0]) }

// each returns f of the numbers of each channel.
func (p PerChannel) each(q PerChannel, f func(x, y float64) float64) (r PerChannel) {
	for i := range p {
		r[i] = f(p[i], q[i])
	}
	return r
}

// String returns it as it is written in YAML.
func (p PerChannel) String() string {
	if p.uniform() {
		return decimal(p[0])
	}
	return fmt.Sprintf("[%s, %s, %s]", decimal(p[0]), decimal(p[1]), decimal(p[2]))
}

// MarshalJSON writes one number, or three.
func (p PerChannel) MarshalJSON() ([]byte, error) {
	if p.uniform() {
		return json.Marshal(p[0])
	}
	return json.Marshal([3]float64(p))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *PerChannel) UnmarshalJSON(b []byte) error {
	one := 0.0
	if err := json.Unmarshal(b, &one); err == nil {
		*p = same(one)
		return nil
	}
	return json.Unmarshal(b, (*[3]float64)(p))
}

// UnmarshalYAML takes a number, or a list of three.
func (p *PerChannel) UnmarshalYAML(node *yaml.Node) error {
	node = resolve(node)
	var err error
	switch {
	case node.Kind == yaml.ScalarNode:
		var x float64
		x, err = channelNumber(node)
		*p = same(x)
	case node.Kind == yaml.SequenceNode && len(node.Content) == len(p):
		for i, n := range node.Content {
			x, wrong := channelNumber(n)
			p[i], err = x, errors.Join(err, wrong)
		}
	default:
		err = fmt.Errorf("line %d: want a number, or a list of three numbers, one for each channel", node.Line)
	}
	return err
}

// channelNumber reads a finite number or a fraction.
func channelNumber(node *yaml.Node) (float64, error) {
	above, below, fraction := strings.Cut(node.Value, "/")
	x, err := strconv.ParseFloat(strings.TrimSpace(above), 64)
	if fraction && err == nil {
		var y float64
		y, err = strconv.ParseFloat(strings.TrimSpace(below), 64)
		x /= y
	}
	if node.Kind != yaml.ScalarNode || err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		return 0, fmt.Errorf("line %d: %q is not a number, nor a fraction such as 1/255", node.Line, node.Value)
	}
	return x, nil
}
