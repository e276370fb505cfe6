import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeError, type Logger } from '@roost/base'
import { parseMap } from './observed-proxy.ts'
import type { RuntimeApi } from './runtime-api.ts'

/**
 * Certificates of people's own names and answers to authorities, in HAProxy and in the files that one which starts reads: on tmpfs, since
 * the private keys in them are clear. Brought there by commands, never by a reload. HAProxy is looked at whenever something
 * changed or it was started again.
 */
export interface CertificateFiles {
  /** Before HAProxy is started: it reads them. */
  prepare(): Promise<void>
  /** Brings files and HAProxy there, unless they are. */
  bringThere(api: RuntimeApi): Promise<void>
  /** Another worker has taken over, or HAProxy was told something by somebody else. */
  lookAgain(): void
}

/** What is shown to clients that ask for a name. */
export interface ServedCertificate {
  readonly hostname: string
  /** Chain and key. */
  readonly pem: string
  /** SHA-1, as HAProxy shows it. */
  readonly fingerprint: string
  /** Only to authorities, over TLS-ALPN-01. */
  readonly challenge: boolean
}

export interface CertificatePaths {
  readonly dir: string
  /** `crt-list`: which file is for which name. */
  readonly list: string
  /** Token → key authorization of HTTP-01. */
  readonly tokens: string
}

interface Wanted {
  readonly line: string
  readonly pem: string
  readonly fingerprint: string
}

export function certificatePaths(runDir: string): CertificatePaths {
  const dir = join(runDir, 'certificates')
  return { dir, list: join(dir, 'list'), tokens: join(dir, 'tokens.map') }
}

export function createCertificateFiles(options: {
  readonly paths: CertificatePaths
  /** At most one for each name. */
  readonly serving: () => Promise<readonly ServedCertificate[]>
  readonly tokens: () => ReadonlyMap<string, string>
  readonly log: Logger
}): CertificateFiles {
  const { paths, log } = options
  let done = ''
  let told = ''
  let queue: Promise<unknown> = Promise.resolve()

  async function look(): Promise<{
    readonly wanted: ReadonlyMap<string, Wanted>
    readonly tokens: ReadonlyMap<string, string>
    readonly mark: string
  }> {
    const wanted = new Map(
      (await options.serving())
        .map((one) => [fileOf(paths.dir, one), one] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([file, { pem, fingerprint, hostname, challenge }]): [string, Wanted] => [
          file,
          { pem, fingerprint, line: `${file}${challenge ? ' [alpn acme-tls/1]' : ''} ${hostname}` },
        ]),
    )
    const tokens = options.tokens()
    const mark = JSON.stringify([
      [...wanted].map(([file, { fingerprint, line }]) => [file, fingerprint, line]),
      [...tokens],
    ])
    return { wanted, tokens, mark }
  }

  /** What the list names is there before it is named, and goes after it. */
  async function write(
    wanted: ReadonlyMap<string, Wanted>,
    tokens: ReadonlyMap<string, string>,
  ): Promise<void> {
    await mkdir(paths.dir, { recursive: true, mode: 0o700 })
    for (const [file, { pem }] of wanted) await writeUnlessSame(file, pem)
    await writeUnlessSame(paths.list, [...wanted.values()].map(({ line }) => `${line}\n`).join(''))
    await writeUnlessSame(
      paths.tokens,
      [...tokens].map(([token, text]) => `${token} ${text}\n`).join(''),
    )
    for (const name of await readdir(paths.dir)) {
      const file = join(paths.dir, name)
      if (name.endsWith('.pem') && !wanted.has(file)) await rm(file, { force: true })
    }
  }

  async function observe(api: RuntimeApi) {
    const [certificates = '', list = '', tokens = ''] = await api.send([
      'show ssl cert',
      `show ssl crt-list ${paths.list}`,
      `show map ${paths.tokens}`,
    ])
    const ours = (text: string) =>
      new Set(
        text
          .split('\n')
          .map((line) => line.replace(/^\*/, '').trim().split(/[ :]/)[0] ?? '')
          .filter((file) => file.startsWith(`${paths.dir}/`) && file.endsWith('.pem')),
      )
    return { stored: ours(certificates), listed: ours(list), tokens: parseMap(tokens) }
  }

  async function bring(api: RuntimeApi): Promise<void> {
    const found = await look()
    if (found.mark === done) return
    const { stored, listed, tokens } = await observe(api)
    const accepted = new Map(found.wanted)
    const refused: string[] = []
    // What is shown for a name goes before something else is: HAProxy takes the first that it has.
    for (const file of listed)
      if (!found.wanted.has(file))
        await say(api, `del ssl crt-list ${paths.list} ${file}`, 'deleted')
    for (const [file, wanted] of found.wanted) {
      try {
        await show(api, file, wanted, { stored: stored.has(file), listed: listed.has(file) })
      } catch (error) {
        // It must not be in the way of the others, least of all when HAProxy is started from these files.
        if (!listed.has(file)) accepted.delete(file)
        refused.push(describeError(error))
      }
    }
    for (const file of stored)
      if (!found.wanted.has(file)) await say(api, `del ssl cert ${file}`, 'deleted')
    const answers = await api.send([
      ...[...tokens.keys()]
        .filter((token) => !found.tokens.has(token))
        .map((token) => `del map ${paths.tokens} ${token}`),
      ...[...found.tokens]
        .filter(([token]) => !tokens.has(token))
        .map(([token, text]) => `add map ${paths.tokens} ${token} ${text}`),
    ])
    await write(accepted, found.tokens)
    const unsaid = answers.find((answer) => answer !== '')
    if (unsaid !== undefined) throw new Error(`answer an authority: ${unsaid}`)
    tellRefused(refused)
    // What is refused is tried again at the next look.
    if (refused.length > 0) return
    done = found.mark
    if (stored.size !== found.wanted.size)
      log.info('certificates of names', { count: found.wanted.size })
  }

  /** One that HAProxy does not take is in nobody's way, and said once. */
  function tellRefused(refused: readonly string[]): void {
    const text = refused.slice(0, 5).join('; ')
    if (text !== '' && text !== told)
      log.error('certificates are refused by HAProxy', { refused: text })
    told = text
  }

  async function show(
    api: RuntimeApi,
    file: string,
    wanted: Wanted,
    is: { readonly stored: boolean; readonly listed: boolean },
  ): Promise<void> {
    if (!is.stored) await say(api, `new ssl cert ${file}`, 'New empty')
    const [shown = ''] = is.stored ? await api.send([`show ssl cert ${file}`]) : ['']
    if (!shown.includes(wanted.fingerprint)) await change(api, file, wanted.pem)
    if (is.listed) return
    const answer = await api.sendPayload(`add ssl crt-list ${paths.list}`, wanted.line)
    if (!answer.includes('Success')) throw new Error(`show a certificate: ${answer}`)
  }

  return {
    async prepare() {
      const { wanted, tokens } = await look()
      await write(wanted, tokens)
    },
    bringThere(api) {
      const next = queue.then(() => bring(api))
      queue = next.catch(() => {})
      return next
    },
    lookAgain() {
      done = ''
    },
  }
}

/** One name has one file, whatever is in it; no host name has a `_`. */
function fileOf(dir: string, { hostname, challenge, pem }: ServedCertificate): string {
  const name = hostname.replace('*', '_')
  // Each challenge has its own: a new one must not be taken for the last.
  const end = challenge ? `_${createHash('sha256').update(pem).digest('hex').slice(0, 12)}` : ''
  return join(dir, `${name}${end}.pem`)
}

/** New connections are shown it from the moment of the commit; those that there are go on. */
async function change(api: RuntimeApi, file: string, pem: string): Promise<void> {
  const answer = await api.sendPayload(`set ssl cert ${file}`, pem)
  // One that was begun and never ended, by a program that was killed, is in everybody's way.
  const other = /ongoing transaction is about '([^']+)'/.exec(answer)?.[1]
  if (other !== undefined) {
    await api.send([`abort ssl cert ${other}`])
    await api.sendPayload(`set ssl cert ${file}`, pem)
  }
  const [committed = ''] = await api.send([`commit ssl cert ${file}`])
  if (!committed.includes('Success'))
    throw new Error(`install the certificate of ${file}: ${answer} ${committed}`)
}

async function say(api: RuntimeApi, command: string, done: string): Promise<void> {
  const [answer = ''] = await api.send([command])
  if (!answer.includes(done)) throw new Error(`${command}: ${answer}`)
}

async function writeUnlessSame(file: string, text: string): Promise<void> {
  if ((await readFile(file, 'utf8').catch(() => null)) === text) return
  await writeFile(`${file}.part`, text, { mode: 0o600 })
  await rename(`${file}.part`, file)
}
