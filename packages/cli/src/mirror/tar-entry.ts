import { PlatformError } from '@roost/base'
import type { Header, Pack } from 'tar-stream'

/** All of what an entry holds. */
export async function buffer(source: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  for await (const chunk of source) chunks.push(chunk as Uint8Array)
  return Buffer.concat(chunks)
}

/** Adds one entry, owned by root unless the header says otherwise, and waits until there is room for the next. */
export function entry(
  layer: Pack,
  header: Partial<Header> & { name: string },
  content?: string | Buffer,
) {
  const full = { uid: 0, gid: 0, mtime: new Date(0), ...header } as Header
  return new Promise<void>((resolve, reject) => {
    const done = (error?: Error | null) => (error ? reject(error) : resolve())
    const sink =
      content === undefined
        ? layer.entry(full, done)
        : layer.entry({ ...full, size: Buffer.byteLength(content) }, content, done)
    if (sink === null) reject(new PlatformError('internal', `write ${header.name}`))
  })
}
