/** Bytes that wait in HAProxy while nobody reads them; the oldest go first. */
const RING_BYTES = 1_048_576
const LINE_BYTES_MAX = 512

/** A ring of lines, and where it is read. Nothing waits for it. */
export function logRing(socket: string): string[] {
  return [
    'ring traffic',
    '  format raw',
    `  maxlen ${LINE_BYTES_MAX}`,
    `  size ${RING_BYTES}`,
    '  timeout connect 5s',
    '  timeout server 60s',
    `  server reader abns@${socket}`,
    '',
  ]
}

/** For a frontend; read by `numbers/log-line.ts`. The host name comes last, since a client may write anything into it. */
export function logRules(at: 'edge' | 'detour'): string[] {
  return [
    `  log ring@traffic len ${LINE_BYTES_MAX} format raw local0`,
    '  option dontlognull',
    `  log-format "${at} %s %ST %U %B %Tw %Tc %Tr %Ta %[var(txn.host)]"`,
  ]
}
