import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;
import org.tensorflow.Graph;
import org.tensorflow.Operand;
import org.tensorflow.Result;
import org.tensorflow.SavedModelBundle;
import org.tensorflow.Session;
import org.tensorflow.SessionFunction;
import org.tensorflow.ndarray.NdArrays;
import org.tensorflow.ndarray.Shape;
import org.tensorflow.ndarray.StdArrays;
import org.tensorflow.op.Ops;
import org.tensorflow.op.core.Placeholder;
import org.tensorflow.op.image.DecodeImage;
import org.tensorflow.op.image.ResizeBilinear;
import org.tensorflow.types.TFloat32;
import org.tensorflow.types.TString;
import org.tensorflow.types.TUint8;

/** A SavedModel for images, with a graph in front that decodes them, or for rows of numbers as JSON. */
class Model {
  record Prediction(String label, int index, float score) {}

  private final SessionFunction predict;
  private final String input;
  private final boolean rows;
  private final ObjectMapper json = new ObjectMapper();
  private final List<String> labels;
  private final Session decoder;
  private final Operand<TString> image;
  private final Operand<TFloat32> pixels;

  Model(Path dir) throws IOException {
    predict = SavedModelBundle.load(dir.toString(), "serve").function("serving_default");
    input = predict.signature().inputNames().iterator().next();
    Shape shape = predict.signature().getInputs().get(input).shape;
    rows = shape.numDimensions() == 2;
    if (rows) {
      labels = Collections.nCopies(10, null);
      image = null;
      pixels = null;
      decoder = null;
      return;
    }
    labels = Files.readAllLines(dir.resolve("assets/labels.txt"));
    int height = (int) shape.get(1), width = (int) shape.get(2);
    boolean inception = height == 299; // the other settings are the tests' tiny model's
    Graph graph = new Graph();
    Ops tf = Ops.create(graph);
    image = tf.placeholder(TString.class, Placeholder.shape(Shape.scalar()));
    Operand<TUint8> decoded =
        tf.image.decodeImage(image, TUint8.class, DecodeImage.channels(3L), DecodeImage.expandAnimations(false));
    Operand<TFloat32> resized =
        tf.image.resizeBilinear(
            tf.expandDims(tf.dtypes.cast(decoded, TFloat32.class), tf.constant(0)),
            tf.constant(new int[] {height, width}),
            ResizeBilinear.alignCorners(inception));
    pixels = tf.math.mul(resized, tf.constant(inception ? 1 / 255f : 1f)); // as inceptor.yaml says
    decoder = new Session(graph);

    try (TFloat32 blank = TFloat32.tensorOf(Shape.of(1, height, width, 3))) {
      for (int i = 0; i < 2; i++) { // the first runs set kernels up
        predict.call(Map.of(input, blank)).close();
      }
    }
  }

  /** The classes of a record, best first. */
  List<Prediction> classify(byte[] record) throws IOException {
    if (rows) {
      try (TFloat32 row = TFloat32.tensorOf(StdArrays.ndCopyOf(new float[][] {json.readValue(record, float[].class)}));
          Result result = predict.call(Map.of(input, row))) {
        return ranked((TFloat32) result.get(0));
      }
    }
    try (TString contents = TString.tensorOfBytes(NdArrays.scalarOfObject(record));
        Result decoded = decoder.runner().feed(image, contents).fetch(pixels).run();
        Result result = predict.call(Map.of(input, decoded.get(0)))) {
      return ranked((TFloat32) result.get(0));
    }
  }

  private List<Prediction> ranked(TFloat32 scores) {
    return IntStream.range(0, labels.size())
        .mapToObj(i -> new Prediction(labels.get(i), i, scores.getFloat(0, i)))
        .sorted(Comparator.comparing(Prediction::score).reversed())
        .toList();
  }
}
