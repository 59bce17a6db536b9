package example.millrace.programs;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * An activity worker without an SDK: takes tasks from {@code activity-tasks}, and answers on {@code requests}.
 *
 * <p>It sends an e-mail (that is, it says so) for every activity {@code send_email} of its task queue. The mail server is
 * busy at the first attempt of each, so that the server tries again. The task queue must be among the server's {@code
 * activity_task_queues}.
 */
final class KafkaWorker implements AutoCloseable {
  private static final ObjectMapper JSON = new ObjectMapper();

  /** C3 01, and the schema's fingerprint. */
  private static final int SINGLE_OBJECT_HEADER_BYTES = 10;

  /** Another attempt may succeed. */
  private static final class Retry extends Exception {
    private static final long serialVersionUID = 1L;

    Retry(String message) {
      super(message);
    }
  }

  private final String taskQueue;
  private final String requests;
  private final GenericDatumReader<GenericRecord> reader;
  private final KafkaProducer<String, byte[]> producer;
  private final KafkaConsumer<String, byte[]> consumer;

  KafkaWorker(String brokers, String prefix, String taskQueue, File schema) throws IOException {
    this.taskQueue = taskQueue;
    requests = prefix + "requests";
    reader = new GenericDatumReader<>(new Schema.Parser().parse(schema));
    producer =
        new KafkaProducer<>(
            Map.of("bootstrap.servers", brokers, "acks", "all"), new StringSerializer(), new ByteArraySerializer());
    // Tasks are published in transactions; one that was aborted must not be worked on.
    consumer =
        new KafkaConsumer<>(
            Map.of(
                "bootstrap.servers", brokers,
                "group.id", taskQueue + "-java",
                "isolation.level", "read_committed",
                "auto.offset.reset", "earliest",
                "enable.auto.commit", false),
            new StringDeserializer(),
            new ByteArrayDeserializer());
    consumer.subscribe(List.of(prefix + "activity-tasks"));
  }

  void run() throws IOException, ExecutionException, InterruptedException {
    while (true) {
      for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofMillis(200))) {
        byte[] value = record.value();
        int length = value.length - SINGLE_OBJECT_HEADER_BYTES;
        var decoder = DecoderFactory.get().binaryDecoder(value, SINGLE_OBJECT_HEADER_BYTES, length, null);
        GenericRecord task = reader.read(null, decoder);
        if (text(task, "task_queue").equals(taskQueue)) {
          work(task);
        }
      }
      // Only now: a worker that dies before leaves its tasks to the next one.
      consumer.commitSync();
    }
  }

  private void work(GenericRecord task) throws IOException, ExecutionException, InterruptedException {
    ObjectNode beat = answer(task);
    beat.putArray("details").addObject().put("connected", true);
    send(task, "heartbeat_activity", beat);
    ObjectNode answer = answer(task);
    try {
      answer.putArray("result").add(sendEmail(task));
      send(task, "complete_activity", answer);
    } catch (Retry error) {
      answer.put("message", error.getMessage()).put("type", "Retry").remove("result");
      send(task, "fail_activity", answer);
    } catch (IllegalArgumentException error) {
      answer.put("message", error.getMessage()).put("type", "NoAddress").put("non_retryable", true).remove("result");
      send(task, "fail_activity", answer);
    }
  }

  private static String sendEmail(GenericRecord task) throws IOException, Retry {
    GenericRecord payload = (GenericRecord) ((List<?>) task.get("input")).get(0);
    JsonNode address = JSON.readTree(StandardCharsets.UTF_8.decode((ByteBuffer) payload.get("data")).toString());
    if (!address.asText().contains("@")) {
      throw new IllegalArgumentException(address.asText() + " is no address");
    }
    if ((int) task.get("attempt") == 1) {
      throw new Retry("the mail server is busy");
    }
    return "sent to " + address.asText() + " by Java";
  }

  private static ObjectNode answer(GenericRecord task) {
    return JSON.createObjectNode().put("task_token", text(task, "task_token")).put("identity", "KafkaWorker");
  }

  /** One key for all of an activity's answers keeps their order. */
  private void send(GenericRecord task, String kind, ObjectNode answer)
      throws JsonProcessingException, ExecutionException, InterruptedException {
    byte[] request = JSON.writeValueAsBytes(JSON.createObjectNode().set(kind, answer));
    producer.send(new ProducerRecord<>(requests, text(task, "workflow_id"), request)).get();
  }

  private static String text(GenericRecord task, String field) {
    return task.get(field).toString();
  }

  @Override
  public void close() {
    consumer.close();
    producer.close();
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 4) {
      System.err.println("KafkaWorker BROKERS TOPIC-PREFIX TASK-QUEUE schemas/activity-tasks.avsc");
      System.exit(2);
    }
    try (KafkaWorker worker =
        new KafkaWorker(arguments[0], arguments[1], arguments[2], new File(arguments[3]))) {
      System.err.println("working on " + arguments[2]);
      worker.run();
    }
  }
}
