import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeError, type Logger, PlatformError } from '@roost/base'
import { parseMap } from './observed-proxy.ts'
import type { RuntimeApi } from './runtime-api.ts'
import { parseTlsList, type TlsLine, type TlsLists, tlsLine } from './tls-lists.ts'

/**
 * Certificates of people's own names and answers to authorities, in HAProxy and in the files that one which starts reads: on tmpfs, since
 * the private keys in them are clear. Brought there by commands, never by a reload. HAProxy is looked at whenever something
 * changed or it was started again. The files hold what it has taken and nothing else: it does not start from one that it refuses.
 */
export interface CertificateFiles {
  /** Before HAProxy is started: it reads them. What they lack it is told once it runs. */
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
  /** The same of names whose app asked for something in handshakes: where HTTP is inside, and where it is anything. */
  readonly https: string
  readonly tls: string
  /** Token → key authorization of HTTP-01. */
  readonly tokens: string
}

interface Wanted extends Written {
  readonly pem: string
  readonly fingerprint: string
}

interface Written {
  readonly hostname: string
  /** null: as the file has it. */
  readonly pem: string | null
  /** List → options in it: in the one of all, or in both others. */
  readonly options: ReadonlyMap<string, string>
}

/** What HAProxy did not take, as it was. */
interface Refusal {
  readonly mark: string
  readonly why: string
  readonly until: number
}
/** It takes no more of it before something is changed, as a rule. */
const REFUSED_MS = 60_000

type ListedLine = TlsLine & { readonly list: string }

export function certificatePaths(runDir: string): CertificatePaths {
  const dir = join(runDir, 'certificates')
  const inDir = (name: string) => join(dir, name)
  return {
    dir,
    list: inDir('list'),
    https: inDir('https.list'),
    tls: inDir('tls.list'),
    tokens: inDir('tokens.map'),
  }
}

export function createCertificateFiles(options: {
  readonly paths: CertificatePaths
  /** At most one for each name. */
  readonly serving: () => Promise<readonly ServedCertificate[]>
  /** What apps ask of handshakes under these names. */
  readonly tlsOptions: () => TlsLists
  readonly tokens: () => ReadonlyMap<string, string>
  /** In milliseconds, from any beginning. */
  readonly now: () => number
  readonly log: Logger
}): CertificateFiles {
  const { paths, log } = options
  const lists = [paths.list, paths.https, paths.tls]
  let done = ''
  let asked = 0
  let told = ''
  const refusals = new Map<string, Refusal>()
  let queue: Promise<unknown> = Promise.resolve()

  async function look(): Promise<{
    readonly wanted: ReadonlyMap<string, Wanted>
    readonly tokens: ReadonlyMap<string, string>
    readonly mark: string
  }> {
    const served = await options.serving()
    const asked = options.tlsOptions()
    const optionsOf = ({ hostname, challenge }: ServedCertificate) => {
      if (challenge) return new Map([[paths.list, 'alpn acme-tls/1']])
      const [https = '', tls = ''] = [asked.https.get(hostname), asked.tls.get(hostname)]
      return https === '' && tls === ''
        ? new Map([[paths.list, '']])
        : new Map([
            [paths.https, https],
            [paths.tls, tls],
          ])
    }
    const wanted = new Map(
      served
        .map((one) => [fileOf(paths.dir, one), one] as const)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([file, one]): [string, Wanted] => [file, { ...one, options: optionsOf(one) }]),
    )
    const tokens = options.tokens()
    const mark = JSON.stringify([
      [...wanted].map(([file, one]) => [file, markOf(one)]),
      [...tokens],
    ])
    return { wanted, tokens, mark }
  }

  /** What the list names is there before it is named, and goes after it. */
  async function write(
    wanted: ReadonlyMap<string, Written>,
    tokens: ReadonlyMap<string, string>,
  ): Promise<void> {
    await mkdir(paths.dir, { recursive: true, mode: 0o700 })
    for (const [file, { pem }] of wanted) if (pem !== null) await writeUnlessSame(file, pem)
    for (const list of lists)
      await writeUnlessSame(
        list,
        [...wanted]
          .flatMap(([file, { hostname, options: by }]) => {
            const asked = by.get(list)
            return asked === undefined ? [] : [`${tlsLine(file, hostname, asked)}\n`]
          })
          .join(''),
      )
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
    const [certificates = '', tokens = '', ...shown] = await api.send([
      'show ssl cert',
      `show map ${paths.tokens}`,
      ...lists.map((list) => `show ssl crt-list -n ${list}`),
    ])
    const isOurs = (file: string) => file.startsWith(`${paths.dir}/`) && file.endsWith('.pem')
    const stored = certificates
      .split('\n')
      .map((line) => line.replace(/^\*/, '').trim())
      .filter(isOurs)
    return {
      stored: new Set(stored),
      listed: shown.flatMap((text, n) =>
        parseTlsList(text)
          .filter(({ file }) => isOurs(file))
          .map((line) => ({ ...line, list: lists[n] ?? '' })),
      ),
      tokens: parseMap(tokens),
    }
  }

  async function bring(api: RuntimeApi): Promise<void> {
    const askedBefore = asked
    const found = await look()
    const at = options.now()
    const all = found.mark !== done
    if (!all && ![...refusals.values()].some(({ until }) => until <= at)) return
    for (const file of refusals.keys()) if (!found.wanted.has(file)) refusals.delete(file)
    const { stored, listed, tokens } = await observe(api)
    const accepted = new Map<string, Written>(found.wanted)
    const unanswered: string[] = []
    // What is shown for a name goes before something else is: HAProxy takes the first that it has.
    for (const { list, file, entry } of listed)
      if (!found.wanted.has(file)) await say(api, `del ssl crt-list ${list} ${entry}`, 'deleted')
    for (const [file, wanted] of found.wanted) {
      const lines = listed.filter((line) => line.file === file)
      const before = refusals.get(file)
      const mark = markOf(wanted)
      let isThere = before === undefined
      try {
        if (before?.mark === mark ? before.until <= at : all) {
          await show(api, file, wanted, { stored: stored.has(file), lines })
          refusals.delete(file)
          isThere = true
        }
      } catch (error) {
        const why = describeError(error)
        if (error instanceof PlatformError) unanswered.push(why)
        else refusals.set(file, { mark, why, until: at + REFUSED_MS })
        isThere = false
      }
      if (isThere) continue
      const { hostname } = wanted
      const shown = new Map(lines.map(({ list, options }) => [list, options]))
      if (lines.length === 0) accepted.delete(file)
      else accepted.set(file, { hostname, pem: null, options: shown })
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
    tellRefused([...[...refusals.values()].map(({ why }) => why), ...unanswered])
    // What HAProxy said nothing of is tried again at the next look.
    if (unanswered.length > 0) return
    // What was asked for meanwhile may be about what was seen before.
    if (asked === askedBefore) done = found.mark
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
    is: { readonly stored: boolean; readonly lines: readonly ListedLine[] },
  ): Promise<void> {
    if (!is.stored) await say(api, `new ssl cert ${file}`, 'New empty')
    const [shown = ''] = is.stored ? await api.send([`show ssl cert ${file}`]) : ['']
    if (!shown.includes(wanted.fingerprint)) await change(api, file, wanted.pem)
    const { hostname } = wanted
    const isWanted = ({ list, host, options: asked }: ListedLine) =>
      host === hostname && wanted.options.get(list) === asked
    for (const [list, asked] of wanted.options) {
      if (is.lines.some((line) => line.list === list && isWanted(line))) continue
      const answer = await api.sendPayload(
        `add ssl crt-list ${list}`,
        tlsLine(file, hostname, asked),
      )
      if (!answer.includes('Success')) throw new Error(`show a certificate: ${answer}`)
    }
    // Last: until here it was shown as before, and HAProxy takes the first that it has.
    for (const line of is.lines)
      if (!isWanted(line)) await say(api, `del ssl crt-list ${line.list} ${line.entry}`, 'deleted')
  }

  return {
    async prepare() {
      await mkdir(paths.dir, { recursive: true, mode: 0o700 })
      for (const file of [...lists, paths.tokens])
        await writeFile(file, '', { mode: 0o600, flag: 'a' })
    },
    bringThere(api) {
      const next = queue.then(() => bring(api))
      queue = next.catch(() => {})
      return next
    },
    lookAgain() {
      asked += 1
      done = ''
    },
  }
}

const markOf = ({ fingerprint, hostname, options }: Wanted): string =>
  JSON.stringify([fingerprint, hostname, [...options]])

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
