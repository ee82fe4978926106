import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.agrona.concurrent.UnsafeBuffer;
import tickwire.*;

/**
 * Reads golden frames by the codecs that the reference generator made from tickwire.xml, and prints each as one line of text.
 * It knows nothing of the Go codec. Text and bytes are printed in hexadecimal.
 */
public final class Dump {
    private static final MessageHeaderDecoder HEADER = new MessageHeaderDecoder();

    public static void main(final String[] args) throws IOException {
        final List<Path> files;
        try (Stream<Path> all = Files.list(Path.of(args[0]))) {
            files = all.filter(p -> p.toString().endsWith(".hex")).sorted().collect(Collectors.toList());
        }
        for (final Path file : files) {
            final byte[] frame = HexFormat.of().parseHex(Files.readString(file).replace("\n", ""));
            final String name = file.getFileName().toString().replace(".hex", "");
            System.out.println(name + " " + dump(new UnsafeBuffer(frame), frame.length));
        }
    }

    private static String dump(final UnsafeBuffer b, final int length) {
        HEADER.wrap(b, 0);
        switch (HEADER.templateId()) {
            case BookSnapshotDecoder.TEMPLATE_ID: {
                final BookSnapshotDecoder d = new BookSnapshotDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("BookSnapshot");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" h=").append(hash(d.h(), BookSnapshotDecoder.hNullValue()));
                s.append(" depth=").append(d.depth()).append(" ms=").append(d.ms());
                s.append(" part=").append(d.part()).append(" of=").append(d.of()).append(" bids=");
                for (final BookSnapshotDecoder.BidsDecoder l : d.bids()) {
                    level(s, l.price(), l.size());
                }
                s.append(" asks=");
                for (final BookSnapshotDecoder.AsksDecoder l : d.asks()) {
                    level(s, l.price(), l.size());
                }
                return s.toString();
            }
            case BookUpdateDecoder.TEMPLATE_ID: {
                final BookUpdateDecoder d = new BookUpdateDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("BookUpdate");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" h=").append(hash(d.h(), BookUpdateDecoder.hNullValue()));
                s.append(" depth=").append(d.depth()).append(" ms=").append(d.ms()).append(" bids=");
                for (final BookUpdateDecoder.BidsDecoder l : d.bids()) {
                    level(s, l.price(), l.size());
                }
                s.append(" asks=");
                for (final BookUpdateDecoder.AsksDecoder l : d.asks()) {
                    level(s, l.price(), l.size());
                }
                return s.toString();
            }
            case TradeDecoder.TEMPLATE_ID: {
                final TradeDecoder d = new TradeDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("Trade");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" price=").append(d.price()).append(" size=").append(d.size());
                s.append(" side=").append(d.side() == Side.NULL_VAL ? "null" : d.side().name());
                return s.append(" id=").append(text(d.id())).toString();
            }
            case TradeGapDecoder.TEMPLATE_ID: {
                final TradeGapDecoder d = new TradeGapDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("TradeGap");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" missed=").append(d.missed() == TradeGapDecoder.missedNullValue() ? "null" : d.missed());
                return s.append(" why=").append(d.why()).toString();
            }
            case BarDecoder.TEMPLATE_ID: {
                final BarDecoder d = new BarDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("Bar");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" start=").append(d.start()).append(" open=").append(d.open()).append(" high=").append(d.high());
                s.append(" low=").append(d.low()).append(" close=").append(d.close()).append(" volume=").append(d.volume());
                s.append(" trades=").append(Long.toUnsignedString(d.trades())).append(" rev=").append(d.rev());
                s.append(" iv=").append(d.iv());
                return s.append(" closed=").append(d.flags().closed()).append(" incomplete=").append(d.flags().incomplete()).toString();
            }
            case StatusDecoder.TEMPLATE_ID: {
                final StatusDecoder d = new StatusDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("Status");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" tick=").append(d.tick()).append(" ps=").append(d.ps()).append(" ss=").append(d.ss());
                s.append(" state=").append(d.state()).append(" book=").append(d.book()).append(" why=").append(d.why());
                s.append(" sym=").append(text(d.sym()));
                s.append(" source=").append(text(d.source()));
                return s.append(" symbol=").append(text(d.symbol())).toString();
            }
            case BboDecoder.TEMPLATE_ID: {
                final BboDecoder d = new BboDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("Bbo");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" bid=");
                level(s, d.bidPrice(), d.bidSize());
                s.append(" ask=");
                level(s, d.askPrice(), d.askSize());
                return s.toString();
            }
            case TickerDecoder.TEMPLATE_ID: {
                final TickerDecoder d = new TickerDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("Ticker");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" last=");
                level(s, d.last(), d.lastSize());
                s.append(" bid=");
                level(s, d.bidPrice(), d.bidSize());
                s.append(" ask=");
                level(s, d.askPrice(), d.askSize());
                s.append(" open=").append(d.open()).append(" high=").append(d.high()).append(" low=").append(d.low());
                s.append(" volume=").append(d.volume()).append(" quote=").append(d.quote());
                return s.append(" trades=").append(Long.toUnsignedString(d.trades())).toString();
            }
            case BarGapDecoder.TEMPLATE_ID: {
                final BarGapDecoder d = new BarGapDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("BarGap");
                head(s, d.inst(), d.ep(), d.prev(), d.seq(), d.ts(), d.in());
                s.append(" missed=").append(d.missed() == BarGapDecoder.missedNullValue() ? "null" : d.missed());
                return s.append(" why=").append(d.why()).append(" iv=").append(d.iv()).toString();
            }
            default:
                return owner(b, length);
        }
    }

    private static String owner(final UnsafeBuffer b, final int length) {
        switch (HEADER.templateId()) {
            case OwnerMarkerDecoder.TEMPLATE_ID: {
                final OwnerMarkerDecoder d = new OwnerMarkerDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                return "OwnerMarker partition=" + d.partition() + " algorithm=" + d.algorithm() + " instance=" + text(d.instance());
            }
            case OwnerHeartbeatDecoder.TEMPLATE_ID: {
                final OwnerHeartbeatDecoder d = new OwnerHeartbeatDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final StringBuilder s = new StringBuilder("OwnerHeartbeat ownerEpoch=" + d.ownerEpoch() + " inputOffset=" + d.inputOffset());
                s.append(" inputLag=").append(d.inputLag()).append(" ts=").append(d.ts()).append(" partition=").append(d.partition());
                s.append(" sources=");
                for (final OwnerHeartbeatDecoder.SourcesDecoder e : d.sources()) {
                    final long last = e.last();
                    s.append('[').append(last).append(' ').append(text(e.source())).append(']');
                }
                return s.toString();
            }
            case OwnerBatchDecoder.TEMPLATE_ID: {
                final OwnerBatchDecoder d = new OwnerBatchDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                return "OwnerBatch ownerEpoch=" + d.ownerEpoch() + " inputOffset=" + d.inputOffset() +
                    " partition=" + d.partition() + " algorithm=" + d.algorithm();
            }
            case SnapshotPartDecoder.TEMPLATE_ID: {
                final SnapshotPartDecoder d = new SnapshotPartDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                final byte[] payload = new byte[d.payloadLength()];
                d.getPayload(payload, 0, payload.length);
                return "SnapshotPart eventsOffset=" + d.eventsOffset() + " inputOffset=" + d.inputOffset() +
                    " ownerEpoch=" + d.ownerEpoch() + " inst=" + d.inst() + " part=" + d.part() + " of=" + d.of() +
                    " algorithm=" + d.algorithm() + " kind=" + d.kind() + " slot=" + d.slot() +
                    " payload=" + HexFormat.of().formatHex(payload);
            }
            case LogIdDecoder.TEMPLATE_ID: {
                final LogIdDecoder d = new LogIdDecoder().wrapAndApplyHeader(b, 0, HEADER);
                whole(d.sbeDecodedLength(), length);
                return "LogId id=" + text(d.id());
            }
            default:
                throw new IllegalStateException("template " + HEADER.templateId());
        }
    }

    private static void head(
        final StringBuilder s, final long inst, final long ep, final long prev, final long seq, final long ts, final long in) {
        s.append(" inst=").append(inst).append(" ep=").append(ep);
        s.append(" prev=").append(Long.toUnsignedString(prev)).append(" seq=").append(Long.toUnsignedString(seq));
        s.append(" ts=").append(ts).append(" in=").append(in);
    }

    private static void level(final StringBuilder s, final long price, final long size) {
        s.append('[').append(price).append(' ').append(size).append(']');
    }

    private static String hash(final long h, final long none) {
        return h == none ? "null" : HexFormat.of().toHexDigits(h);
    }

    private static String text(final String s) {
        return HexFormat.of().formatHex(s.getBytes(StandardCharsets.UTF_8));
    }

    /** The generated codec must end where the frame ends. */
    private static void whole(final int decoded, final int length) {
        if (MessageHeaderDecoder.ENCODED_LENGTH + decoded != length) {
            throw new IllegalStateException("decoded " + decoded + " bytes of a frame of " + length);
        }
    }
}
