// Java's own client posts without a token and then asks with one, over the same client: prints what it was told.
// Arguments: URL, token.
import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;

public class RefusedBodies {
    private static final int[] SIZES = {3, 10_000, 100_000, 1_000_000};
    private static final int ROUNDS = 5;

    public static void main(String[] arguments) {
        for (int size : SIZES) {
            for (String framing : new String[] {"length", "chunked", "expect"}) {
                // Java 17 waits for ever where a final response comes instead of 100 (JDK-8286171), as it does to a long body.
                if (framing.equals("expect") && size > 65_536) continue;
                HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
                byte[] body = new byte[size];
                for (int round = 0; round < ROUNDS; round++) {
                    var publisher = framing.equals("chunked")
                        ? BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(body))
                        : BodyPublishers.ofByteArray(body);
                    var post = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/chat")).POST(publisher)
                        .expectContinue(framing.equals("expect"));
                    var get = HttpRequest.newBuilder(URI.create(arguments[0] + "/v1/models")).header("Authorization", "Bearer " + arguments[1]);
                    System.out.printf("{\"size\": %d, \"framing\": \"%s\", \"refused\": %s, \"served\": %s}%n", size, framing, told(client, post), told(client, get));
                }
            }
        }
    }

    private static String told(HttpClient client, HttpRequest.Builder request) {
        try {
            return String.valueOf(client.send(request.timeout(Duration.ofSeconds(10)).build(), BodyHandlers.discarding()).statusCode());
        } catch (Exception error) {
            return "\"" + error.getClass().getSimpleName() + "\"";
        }
    }
}
