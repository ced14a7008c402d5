package infer

import (
	"cmp"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// Which pixels a graph takes follows from what it computes first, in the forms that people use.
// Other forms say nothing.
func TestConversionForGraph(t *testing.T) {
	one := func(scale, offset float64) *savedmodel.Affine {
		return &savedmodel.Affine{Scale: []float64{scale}, Offset: []float64{offset}}
	}
	orders := map[string]pixels.Channels{ // if the means tell it
		"Caffe's means, BGR": pixels.BGR, "ImageNet's, BGR": pixels.BGR, "ImageNet's, 0…1": pixels.RGB, "ImageNet's, 0…255": pixels.RGB,
	}
	for name, test := range map[string]struct {
		graph *savedmodel.Affine
		want  conversion // none: nothing is known
	}{
		"nothing":            {nil, conversion{}},
		"no elements":        {&savedmodel.Affine{}, conversion{}},
		"x":                  {one(1, 0), conversion{}},
		"x/255":              {one(1.0/255, 0), zeroTo255},
		"x/256":              {one(1.0/256, 0), zeroTo255},
		"x/127.5":            {one(1/127.5, 0), zeroTo255},
		"x/128":              {one(1.0/128, 0), zeroTo255},
		"x/127.5 - 1":        {one(1/127.5, -1), zeroTo255},
		"x/128 - 1":          {one(1.0/128, -1), zeroTo255},
		"(x - 127)/128":      {one(1.0/128, -127.0/128), zeroTo255},
		"x - 117":            {one(1, -117), zeroTo255},
		"x/255 - 0.5":        {one(1.0/255, -0.5), zeroTo255},
		"2x - 1":             {one(2, -1), zeroToOne},
		"x - 0.5":            {one(1, -0.5), zeroToOne},
		"x*255":              {one(255, 0), zeroToOne},
		"(x - 0.5)*255":      {one(255, -127.5), zeroToOne},
		"(x + 1)/2":          {one(0.5, 0.5), minusOneToOne},
		"(x + 1)*127.5":      {one(127.5, 127.5), minusOneToOne},
		"x + 1":              {one(1, 1), conversion{}},
		"x/58.4":             {one(1/58.4, 0), conversion{}},
		"x*3":                {one(3, 0), conversion{}},
		"x - 20":             {one(1, -20), conversion{}},
		"x - 0.05":           {one(1, -0.05), conversion{}},
		"1 - x":              {one(-1, 1), conversion{}},
		"127.5 - x":          {one(-1, 127.5), conversion{}},
		"0":                  {one(0, -1), conversion{}},
		"NaN":                {one(nan(), -1), conversion{}},
		"NaN offset":         {one(1, nan()), conversion{}},
		"Caffe's means, BGR": {&savedmodel.Affine{Scale: []float64{1}, Offset: []float64{-103.939, -116.779, -123.68}}, zeroTo255},
		"ImageNet's, BGR":    {&savedmodel.Affine{Scale: []float64{1}, Offset: []float64{-0.406, -0.456, -0.485}}, zeroToOne},
		"another data set's": {&savedmodel.Affine{Scale: []float64{1}, Offset: []float64{-0.447, -0.482, -0.491}}, zeroToOne},
		"ImageNet's, 0…1":    {&savedmodel.Affine{Scale: []float64{1 / 0.229, 1 / 0.224, 1 / 0.225}, Offset: []float64{-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225}}, zeroToOne},
		"ImageNet's, 0…255":  {&savedmodel.Affine{Scale: []float64{1 / 58.4, 1 / 57.1, 1 / 57.4}, Offset: []float64{-123.7 / 58.4, -116.3 / 57.1, -103.5 / 57.4}}, zeroTo255},
		"bright, of −1…1":    {&savedmodel.Affine{Scale: []float64{2.2, 2.2, 2}, Offset: []float64{-0.35 * 2.2, -0.4 * 2.2, -0.45 * 2}}, conversion{}},
		"channels disagree":  {&savedmodel.Affine{Scale: []float64{1}, Offset: []float64{-103.939, -0.456, -123.68}}, conversion{}},
		"one is not known":   {&savedmodel.Affine{Scale: []float64{1, 1, 1}, Offset: []float64{-103.939, 0, -123.68}}, conversion{}},
		"deviations, x*58.4": {&savedmodel.Affine{Scale: []float64{1 / 58.4, 1 / 57.1, 1 / 57.4}, Offset: []float64{0, 0, 0}}, conversion{}},
	} {
		known := test.want != conversion{}
		test.want.channels = orders[name]
		got, ok := conversionFor(test.graph)
		if got != test.want && ok || ok != known {
			t.Errorf("%s: got %v %v, %v, want %v %v", name, got.channels, got, ok, test.want.channels, test.want)
		}
	}
}

func nan() float64 {
	zero := 0.0
	return zero / zero
}

// inceptor.yaml decides, then the model; the rest is assumed. The rule is the same if the file says
// something else, and without a file.
func TestPreprocessingRule(t *testing.T) {
	takes255 := &savedmodel.Affine{Scale: []float64{1 / 127.5}, Offset: []float64{-1}}
	takesOne := &savedmodel.Affine{Scale: []float64{2}, Offset: []float64{-1}}
	takesBGR := &savedmodel.Affine{Scale: []float64{1}, Offset: []float64{-103.939, -116.779, -123.68}}
	torchInput := Input{Scale: new(same(1.0 / 255)), Mean: &PerChannel{0.485, 0.456, 0.406}, Std: &PerChannel{0.229, 0.224, 0.225}}
	float := evidence{dtype: savedmodel.Float32}
	for name, test := range map[string]struct {
		in         Input
		e          evidence
		want       conversion
		scaleFrom  Origin
		half       bool
		resizeFrom Origin
		contradict string
	}{
		"nothing said, TensorFlow 1": {Input{}, float, minusOneToOne, OriginAssumed, false, OriginAssumed, ""},
		"nothing said, TensorFlow 2": {Input{}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, true, OriginAssumed, ""},
		"the graph says":             {Input{}, evidence{dtype: savedmodel.Float32, pixels: takes255, tf2: true}, zeroTo255, OriginGraph, true, OriginAssumed, ""},
		"the graph says 0…1":         {Input{}, evidence{dtype: savedmodel.Float32, pixels: takesOne, tf2: false}, zeroToOne, OriginGraph, false, OriginAssumed, ""},
		"uint8":                      {Input{}, evidence{dtype: savedmodel.UInt8}, zeroTo255, OriginGraph, false, OriginAssumed, ""},
		"scale alone":                {Input{Scale: new(same(1.0 / 255))}, float, zeroToOne, OriginFile, false, OriginAssumed, ""},
		"offset alone":               {Input{Offset: new(same(-117.0))}, float, rgbOf(1, -117), OriginFile, false, OriginAssumed, ""},
		"both":                       {Input{Scale: new(same(1 / 127.5)), Offset: new(same(-1.0))}, float, minusOneToOne, OriginFile, false, OriginAssumed, ""},
		"the file and the graph agree": {
			Input{Scale: new(same(1.0 / 256))}, evidence{dtype: savedmodel.Float32, pixels: takesOne, tf2: false}, rgbOf(1.0/256, 0), OriginFile, false, OriginAssumed, "",
		},
		"the file contradicts the graph": {
			Input{Scale: new(same(1.0 / 255))}, evidence{dtype: savedmodel.Float32, pixels: takes255, tf2: false}, zeroToOne, OriginFile, false, OriginAssumed,
			"inceptor.yaml makes pixels of 0…1, but the model seems to take 0…255",
		},
		"the file contradicts uint8": {
			Input{Scale: new(same(1 / 127.5)), Offset: new(same(-1.0))}, evidence{dtype: savedmodel.UInt8}, minusOneToOne, OriginFile, false, OriginAssumed,
			"inceptor.yaml makes pixels of −1…1, but the model seems to take 0…255",
		},
		"mean and std":           {torchInput, float, torchRGB, OriginFile, false, OriginAssumed, ""},
		"mean alone, BGR":        {Input{Channels: "bgr", Mean: &PerChannel{103.939, 116.779, 123.68}}, float, caffeBGR, OriginFile, false, OriginAssumed, ""},
		"std alone":              {Input{Std: new(same(255))}, float, zeroToOne, OriginFile, false, OriginAssumed, ""},
		"BGR, nothing else said": {Input{Channels: "bgr"}, float, minusOneToOne.withChannels(pixels.BGR), OriginAssumed, false, OriginAssumed, ""},
		"gray by the shape":      {Input{}, evidence{dtype: savedmodel.Float32, channels: pixels.Gray}, minusOneToOne.withChannels(pixels.Gray), OriginAssumed, false, OriginAssumed, ""},
		"the graph says BGR":     {Input{}, evidence{dtype: savedmodel.Float32, pixels: takesBGR}, zeroTo255.withChannels(pixels.BGR), OriginGraph, false, OriginAssumed, ""},
		"the file says BGR, the graph the range": {
			Input{Channels: "bgr"}, evidence{dtype: savedmodel.Float32, pixels: takes255}, zeroTo255.withChannels(pixels.BGR), OriginGraph, false, OriginAssumed, "",
		},
		"the file contradicts the order of the graph": {
			Input{Channels: "rgb"}, evidence{dtype: savedmodel.Float32, pixels: takesBGR}, zeroTo255, OriginGraph, false, OriginAssumed,
			"inceptor.yaml makes the channels rgb, but the model seems to take bgr",
		},
		"the file says a scale and no order": {
			Input{Scale: new(same(1))}, evidence{dtype: savedmodel.Float32, pixels: takesBGR}, zeroTo255, OriginFile, false, OriginAssumed,
			"inceptor.yaml makes the channels rgb, but the model seems to take bgr",
		},
		"normalized twice": {
			torchInput, evidence{dtype: savedmodel.Float32, pixels: takesOne}, torchRGB, OriginFile, false, OriginAssumed,
			"inceptor.yaml makes pixels of 0…1 normalized by ImageNet's mean and std, but the model seems to take 0…1",
		},
		"whole numbers":                 {Input{}, evidence{dtype: savedmodel.Int32}, zeroTo255, OriginAssumed, false, OriginAssumed, ""},
		"whole numbers with a sign":     {Input{}, evidence{dtype: savedmodel.Int8}, rgbOf(1, -128), OriginAssumed, false, OriginAssumed, ""},
		"whole numbers, the graph says": {Input{}, evidence{dtype: savedmodel.Int32, pixels: takes255}, zeroTo255, OriginGraph, false, OriginAssumed, ""},
		"bytes, BGR":                    {Input{}, evidence{dtype: savedmodel.UInt8, pixels: takesBGR}, zeroTo255.withChannels(pixels.BGR), OriginGraph, false, OriginAssumed, ""},
		"nearest":                       {Input{Resize: "nearest"}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, true, OriginAssumed, ""},
		"half-pixel centers, written":   {Input{HalfPixelCenters: new(true)}, float, minusOneToOne, OriginAssumed, true, OriginFile, ""},
		"no half-pixel centers, written": {
			Input{HalfPixelCenters: new(false)}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, false, OriginFile, "",
		},
		"corners aligned": {
			Input{AlignCorners: new(true)}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, false, OriginFile, "",
		},
		"corners not aligned": {
			Input{AlignCorners: new(false)}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, true, OriginAssumed, "",
		},
		"area": {Input{Resize: "area"}, evidence{dtype: savedmodel.Float32, tf2: true}, minusOneToOne, OriginAssumed, false, OriginFile, ""},
	} {
		p, contradiction := test.in.preprocessing(test.e)
		if p.conversion() != test.want || p.ScaleFrom != test.scaleFrom || p.HalfPixelCenters != test.half || p.ResizeFrom != test.resizeFrom {
			t.Errorf("%s: got %v", name, p)
		}
		if contradiction != test.contradict {
			t.Errorf("%s: the contradiction is %q, want %q", name, contradiction, test.contradict)
		}
	}
}

// A note names what is assumed and the line that states it, and nothing that is known.
func TestPreprocessingNote(t *testing.T) {
	half := evidence{dtype: savedmodel.Float32, tf2: true}
	for name, test := range map[string]struct {
		in   Input
		dir  string
		want string
	}{
		"all": {Input{}, "models/m/1", `pixels −1…1 and half-pixel centers are assumed, not stated by the model: if they are right, ` +
			`write "input: {scale: 0.00784313725490196, offset: -1, half_pixel_centers: true}" into models/m/1/assets.extra/inceptor.yaml to state them`},
		"the resize": {Input{Scale: new(same(1.0))}, "models/m/1", `half-pixel centers are assumed, not stated by the model: if they are right, ` +
			`write "input: {half_pixel_centers: true}" into models/m/1/assets.extra/inceptor.yaml to state them`},
		"the pixels, of a model server": {Input{Resize: "area"}, "", `pixels −1…1 are assumed, not stated by the model: if they are right, ` +
			`write "input: {scale: 0.00784313725490196, offset: -1}" into DIR/VERSION/assets.extra/inceptor.yaml of model.dir to state them`},
		"BGR": {Input{Channels: "bgr", HalfPixelCenters: new(true)}, "models/m/1", `pixels BGR −1…1 are assumed, not stated by the model: if they are right, ` +
			`write "input: {channels: bgr, scale: 0.00784313725490196, offset: -1}" into models/m/1/assets.extra/inceptor.yaml to state them`},
		"nothing": {Input{Scale: new(same(1.0)), HalfPixelCenters: new(false)}, "models/m/1", ""},
	} {
		p, _ := test.in.preprocessing(half)
		if got := p.note(test.dir); got != test.want {
			t.Errorf("%s: got\n%s, want\n%s", name, got, test.want)
		}
	}
}

// If golden images pass with several conventions, the one with the best scores is used but is not
// called measured. If they pass with none, the error says how each failed.
func TestBestConvention(t *testing.T) {
	bad := func(text string) error { return &goldenError{text} }
	gone := errors.New("gone")
	type result struct {
		sum float64
		err error
	}
	for name, test := range map[string]struct {
		results [3]result // of the conventions of each channel alike
		want    conversion
		only    bool
		failure string
		final   error
	}{
		"one passes":     {[3]result{{0, bad("a")}, {0, bad("b")}, {0.5, nil}}, zeroTo255, true, "", nil},
		"two pass":       {[3]result{{1.5, nil}, {1.7, nil}, {0, bad("c")}}, zeroToOne, false, "", nil},
		"alike":          {[3]result{{1, nil}, {1, nil}, {1, nil}}, minusOneToOne, false, "", nil},
		"negative sums":  {[3]result{{-3, nil}, {-2, nil}, {0, bad("c")}}, zeroToOne, false, "", nil},
		"0…255 is surer": {[3]result{{0, bad("a")}, {1.2, nil}, {1.9, nil}}, zeroToOne, false, "", nil},
		"none passes":    {[3]result{{0, bad("a")}, {0, bad("b")}, {0, bad("c")}}, conversion{}, false, "pixels −1…1: a; pixels 0…1: b; pixels 0…255: c", nil},
		"another error":  {[3]result{{1, nil}, {0, gone}, {1, nil}}, conversion{}, false, "", gone},
		"error at first": {[3]result{{0, gone}, {1, nil}, {1, nil}}, conversion{}, false, "", gone},
	} {
		i := 0
		tried := []conversion{minusOneToOne, zeroToOne, zeroTo255}
		got, only, err := bestConvention(tried, func(c conversion) (float64, error) {
			if c != tried[i] {
				t.Errorf("%s: %v is tried at place %d", name, c, i)
			}
			i++
			return test.results[i-1].sum, test.results[i-1].err
		})
		failed := (*goldenError)(nil)
		switch {
		case test.final != nil && !errors.Is(err, test.final):
			t.Errorf("%s: got %v, want %v", name, err, test.final)
		case test.failure != "" && (!errors.As(err, &failed) || !strings.Contains(err.Error(), test.failure)):
			t.Errorf("%s: got %v, want %q", name, err, test.failure)
		case test.final == nil && test.failure == "" && (err != nil || got != test.want || only != test.only):
			t.Errorf("%s: got %v, %v, %v, want %v, %v", name, got, only, err, test.want, test.only)
		}
	}
}

// Conventions with wide ranges compete with one another only.
func TestBestConventionWide(t *testing.T) {
	for name, test := range map[string]struct {
		sums map[conversion]float64 // of those that pass
		want conversion
		only bool
	}{
		"PyTorch's":             {map[conversion]float64{torchRGB: 0.4}, torchRGB, true},
		"surer with more":       {map[conversion]float64{minusOneToOne: 0.5, torchRGB: 0.9, caffeBGR: 1, zeroTo255: 1}, torchRGB, false},
		"Caffe's":               {map[conversion]float64{caffeBGR: 0.9, zeroTo255: 0.7}, caffeBGR, false},
		"0…255":                 {map[conversion]float64{caffeBGR: 0.7, zeroTo255: 0.9}, zeroTo255, false},
		"a low score, not wide": {map[conversion]float64{zeroToOne: 0.1, caffeBGR: 0.9}, zeroToOne, false},
	} {
		got, only, err := bestConvention(conventions[:], func(c conversion) (float64, error) {
			if sum, ok := test.sums[c]; ok {
				return sum, nil
			}
			return 0, &goldenError{"another class"}
		})
		if err != nil || got != test.want || only != test.only {
			t.Errorf("%s: got %v, %v, %v, want %v, %v", name, got, only, err, test.want, test.only)
		}
	}
}

// Each kind of input has its conventions.
func TestConventionsFor(t *testing.T) {
	for name, test := range map[string]struct {
		channels pixels.Channels
		dtype    savedmodel.DataType
		want     string
	}{
		"any":   {"", savedmodel.Float32, "−1…1; 0…1; 0…1 normalized by ImageNet's mean and std; BGR 0…255 less ImageNet's mean; 0…255"},
		"rgb":   {pixels.RGB, savedmodel.Float16, "−1…1; 0…1; 0…1 normalized by ImageNet's mean and std; 0…255 less ImageNet's mean; 0…255"},
		"bgr":   {pixels.BGR, savedmodel.Float64, "BGR −1…1; BGR 0…1; BGR 0…1 normalized by ImageNet's mean and std; BGR 0…255 less ImageNet's mean; BGR 0…255"},
		"gray":  {pixels.Gray, savedmodel.BFloat16, "gray −1…1; gray 0…1; gray 0…255"},
		"int32": {"", savedmodel.Int32, "0…255"},
		"int8":  {pixels.BGR, savedmodel.Int8, "BGR −128…127"},
	} {
		var texts []string
		for _, c := range conventionsFor(test.channels, test.dtype) {
			texts = append(texts, c.String())
		}
		if got := strings.Join(texts, "; "); got != test.want {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
}

// The lines of inceptor.yaml for a convention mean that convention.
func TestConversionKeys(t *testing.T) {
	for _, c := range conventions {
		for _, order := range []pixels.Channels{pixels.RGB, pixels.BGR} {
			c = c.withChannels(order)
			var spec Spec
			text := "input: {" + strings.Join(c.yamlLines(), ", ") + "}"
			if err := decodeYAML([]byte(text), &spec); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			spec.Input.Resize, spec.TopK = "bilinear", 1
			if err := spec.validate(); err != nil {
				t.Errorf("%s: %v", text, err)
			}
			if p, _ := spec.Input.preprocessing(evidence{dtype: savedmodel.Float32}); p.conversion() != c {
				t.Errorf("%s: got %v, want %v", text, p.conversion(), c)
			}
		}
	}
}

// The text has every step, and how it is known.
func TestPreprocessingString(t *testing.T) {
	for _, test := range []struct {
		in   Input
		want string
	}{
		{Input{}, "4×6, bilinear, half-pixel centers (assumed), pixels −1…1 (assumed)"},
		{
			Input{Crop: new(0.875), Fit: "pad", Resize: "area", Channels: "bgr", Mean: &PerChannel{103.939, 116.779, 123.68}},
			"4×6, the middle 0.875 of each side, padded to the aspect ratio, area (inceptor.yaml), pixels BGR 0…255 less ImageNet's mean (inceptor.yaml)",
		},
		{
			Input{Fit: "crop", Resize: "nearest", HalfPixelCenters: new(false), Scale: &PerChannel{1, 2, 1}},
			"4×6, cropped to the aspect ratio, nearest (inceptor.yaml), pixels 0…255, 0…510, 0…255 (inceptor.yaml)",
		},
		{Input{AlignCorners: new(true), Channels: "gray", Scale: new(same(1))}, "4×6, bilinear, corners aligned (inceptor.yaml), pixels gray 0…255 (inceptor.yaml)"},
	} {
		in := test.in
		in.Size, in.Resize = [2]int{4, 6}, cmp.Or(in.Resize, "bilinear")
		p, _ := in.preprocessing(evidence{dtype: savedmodel.Float32, tf2: true})
		if got := p.String(); got != test.want {
			t.Errorf("got %s, want %s", got, test.want)
		}
	}
	p, _ := Input{Size: [2]int{4, 6}, Resize: "bilinear"}.preprocessing(evidence{})
	p.Layout = pixels.ChannelsFirst
	if got, want := p.String(), "4×6, channels first, bilinear"; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

// JSON has one number if the channels have the same, else three.
func TestPreprocessingJSON(t *testing.T) {
	p, _ := Input{Size: [2]int{4, 6}, Resize: "bicubic", Channels: "bgr", Mean: &PerChannel{1, 2, 3}}.preprocessing(evidence{dtype: savedmodel.Float32})
	b, err := json.Marshal(p)
	want := `{"size":[4,6],"layout":"nhwc","crop":1,"fit":"stretch","resize":"bicubic","align_corners":false,"half_pixel_centers":false,` +
		`"channels":"bgr","scale":1,"offset":[-1,-2,-3],"scale_from":"inceptor.yaml","resize_from":"assumed"}`
	if err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
}

// Types can hold some conversions only.
func TestConversionFits(t *testing.T) {
	for _, test := range []struct {
		c     conversion
		dtype savedmodel.DataType
		fits  bool
	}{
		{zeroTo255, savedmodel.UInt8, true},
		{rgbOf(1, -0.5), savedmodel.UInt8, true}, // −0.5 becomes 0
		{minusOneToOne, savedmodel.UInt8, false},
		{rgbOf(1, 1), savedmodel.UInt8, false},
		{caffeBGR, savedmodel.UInt32, false},
		{zeroTo255, savedmodel.Int8, false},
		{rgbOf(1, -128), savedmodel.Int8, true},
		{caffeBGR, savedmodel.Int16, true},
		{rgbOf(1000, 0), savedmodel.Int16, false},
		{rgbOf(1000, 0), savedmodel.Int64, true},
		{zeroToOne, savedmodel.Int32, false}, // all but 255 would become 0
		{minusOneToOne, savedmodel.Int16, false},
		{torchRGB, savedmodel.Int64, false},
		{rgbOf(0.5, 0), savedmodel.UInt8, true},
		{rgbOf(1000, 0), savedmodel.Float16, false},
		{torchRGB, savedmodel.Float16, true},
		{rgbOf(1000, 0), savedmodel.BFloat16, true},
		{rgbOf(1000, 0), savedmodel.Float32, true},
	} {
		if err := test.c.checkType(test.dtype); (err == nil) != test.fits {
			t.Errorf("%v as %v: got %v, want that it fits: %v", test.c, test.dtype, err, test.fits)
		}
	}
}
