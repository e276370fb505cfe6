import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  randomBytes,
  timingSafeEqual,
} from 'node:crypto'
import { link, mkdir, open, readFile, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PlatformError } from '@roost/base'

/**
 * Encrypts what lies in the store. The key is a file outside of it, so that a copy of the database tells nothing.
 *
 * The file has one key a line, base64. The first one seals; all of them open, each sealed text names its own. To rotate:
 * put a new line on top; the old line may go when no secret names it any more.
 */
export interface MasterKey {
  /** `context` must be the same to open it: a sealed text moved to another app or name does not open. */
  seal(text: string, context: string): string
  open(sealed: string, context: string): string
  /** 16 hex characters that tell whether two values of the same context are the same, to nobody without the key. */
  digest(text: string, context: string): string
  /** It was sealed by a key that is no longer the first. */
  isOld(sealed: string): boolean
}

const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16
const VERSION = 'r1'

/** Makes the file, 0600, when there is none. */
export async function openMasterKey(file: string): Promise<MasterKey> {
  const text = (await readKeys(file)) ?? (await createKeys(file))
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .map((line) => {
      const bytes = Buffer.from(line, 'base64')
      if (bytes.length !== KEY_BYTES)
        throw new PlatformError('internal', `${file}: a line is not a key of ${KEY_BYTES} bytes`)
      return { id: keyId(bytes), bytes }
    })
  const [first] = keys
  if (first === undefined) throw new PlatformError('internal', `${file} has no key`)

  return {
    seal(plain, context) {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv('aes-256-gcm', first.bytes, iv)
      cipher.setAAD(Buffer.from(context))
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final()])
      const bytes = Buffer.concat([iv, cipher.getAuthTag(), body])
      return `${VERSION}.${first.id}.${bytes.toString('base64')}`
    },
    open(sealed, context) {
      const [version, id, body] = sealed.split('.')
      const key = keys.find((k) => k.id === id)
      if (version !== VERSION || body === undefined)
        throw new PlatformError('internal', 'open a secret: unknown form')
      if (key === undefined)
        throw new PlatformError(
          'internal',
          `open a secret: it was sealed with key ${id}, which is not in ${file}`,
        )
      const bytes = Buffer.from(body, 'base64')
      const decipher = createDecipheriv('aes-256-gcm', key.bytes, bytes.subarray(0, IV_BYTES))
      decipher.setAAD(Buffer.from(context))
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
      const rest = bytes.subarray(IV_BYTES + TAG_BYTES)
      try {
        return Buffer.concat([decipher.update(rest), decipher.final()]).toString('utf8')
      } catch (cause) {
        throw new PlatformError('internal', 'open a secret: it was changed', { cause })
      }
    },
    digest(plain, context) {
      const hash = createHmac('sha256', first.bytes).update(JSON.stringify([context, plain]))
      return hash.digest('hex').slice(0, 16)
    },
    isOld: (sealed) => !equal(sealed.split('.')[1] ?? '', first.id),
  }
}

function keyId(bytes: Buffer): string {
  return createHash('sha256').update('roost master key').update(bytes).digest('hex').slice(0, 8)
}

function equal(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b))
}

async function readKeys(file: string): Promise<string | null> {
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null
    throw new PlatformError('internal', `read the master key ${file}`, { cause: error })
  })
}

/** Whole and on the disk before the first secret is sealed with it; of two that try, one wins and both use its key. */
async function createKeys(file: string): Promise<string> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const draft = `${file}.${randomBytes(6).toString('hex')}.draft`
  const text = `${randomBytes(KEY_BYTES).toString('base64')}\n`
  const handle = await open(draft, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  try {
    await link(draft, file)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
  } finally {
    await unlink(draft)
  }
  const kept = await readKeys(file)
  if (kept === null) throw new PlatformError('internal', `the master key ${file} vanished`)
  return kept
}
