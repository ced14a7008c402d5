import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;

/**
 * The same job in Java, for comparison: images, or rows of numbers, from a Kafka topic, predictions to
 * another.
 *
 * <p>Service --brokers HOST:PORT --group GROUP --input TOPIC --output TOPIC --model DIR
 *
 * <p>Kafka Streams as it is used: a processor gets one record and forwards one answer, so the model runs batches of one.
 * To gather records first is against its grain: it commits what a processor was given, so records that wait in memory
 * are lost in a crash, and those in a state store go to the broker once more. One thread and at least once, as it comes.
 */
public class Service {
  public static void main(String[] args) throws Exception {
    Map<String, String> flags = new HashMap<>();
    for (int i = 0; i + 1 < args.length; i += 2) {
      flags.put(args[i], args[i + 1]);
    }
    System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", "warn");
    Model model = new Model(Path.of(flags.get("--model")));

    StreamsBuilder builder = new StreamsBuilder();
    builder
        .stream(flags.get("--input"), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
        .processValues(() -> new Classify(model))
        .to(flags.get("--output"), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));

    Properties config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, flags.get("--group"));
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, flags.get("--brokers"));
    config.put("linger.ms", 0); // an answer would wait 100 ms for others
    config.put("session.timeout.ms", 6000); // as the other services

    KafkaStreams streams = new KafkaStreams(builder.build(), config);
    streams.setUncaughtExceptionHandler(
        e -> {
          e.printStackTrace();
          Runtime.getRuntime().halt(1);
          return null;
        });
    Runtime.getRuntime()
        .addShutdownHook(
            new Thread(
                () -> {
                  streams.close();
                  Runtime.getRuntime().halt(0); // to be told to end is no error
                }));
    streams.start();
  }

  private record Answer(String id, List<Model.Prediction> predictions) {}

  private static class Classify extends ContextualFixedKeyProcessor<byte[], byte[], byte[]> {
    private final ObjectMapper json = new ObjectMapper();
    private final Model model;

    Classify(Model model) {
      this.model = model;
    }

    @Override
    public void process(FixedKeyRecord<byte[], byte[]> record) {
      String id = context().recordMetadata().map(m -> m.topic() + "-" + m.partition() + "-" + m.offset()).orElseThrow();
      try {
        context().forward(record.withValue(json.writeValueAsBytes(new Answer(id, model.classify(record.value())))));
      } catch (IOException e) {
        throw new UncheckedIOException(e);
      }
    }
  }
}
