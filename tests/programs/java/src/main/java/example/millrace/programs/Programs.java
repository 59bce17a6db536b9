package example.millrace.programs;

import java.util.Arrays;
import java.util.Map;

/**
 * Programs to run against any Temporal-compatible server: each starts its own worker and client, plays one scenario
 * from beginning to end and checks every result.
 */
public final class Programs {
  @FunctionalInterface
  interface Program {
    void play(Stage stage) throws Exception;
  }

  private static final Map<String, Program> PROGRAMS =
      Map.of("order_status", OrderStatus::play, "subscription", Subscriptions::play);

  public static void main(String[] args) {
    String name = args.length > 0 ? args[0] : "";
    Program program = PROGRAMS.get(name);
    if (program == null) {
      System.err.println("usage: programs " + PROGRAMS.keySet() + " [--address A] [--namespace N] [--id-prefix P]");
      System.exit(2);
    }
    int status = 1;
    try (Stage stage = Stage.setUp(name, Arrays.asList(args).subList(1, args.length))) {
      program.play(stage);
      System.out.println(stage.report("java/" + name));
      status = 0;
    } catch (Exception | Stage.Unexpected failure) {
      System.err.println(name + " failed: " + failure);
    }
    // The SDK's threads must not keep the process alive.
    System.exit(status);
  }

  private Programs() {}
}
