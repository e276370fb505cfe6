import { Socket } from 'node:net'

/**
 * A connection on which a write that fails is no reason not to read. Who has answered may close without having read all that it was sent, and
 * Node gives up a socket with what lies there unread as soon as a write to it fails: the answer would be lost. Here, what can't
 * be written is dropped, and the end of what there is to read is the end.
 */
export class PatientSocket extends Socket {
  override _write(chunk: Buffer, encoding: BufferEncoding, done: () => void): void {
    super._write(chunk, encoding, () => done())
  }

  override _writev(
    chunks: { readonly chunk: Buffer; readonly encoding: BufferEncoding }[],
    done: () => void,
  ): void {
    super._writev?.(chunks, () => done())
  }
}
