import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { nearest } from '../config/reader.ts'
import { Failure, usage } from '../failure/failure.ts'

/** A server that this person speaks to. `ca`: its authority in PEM, null where the system's authorities know it. */
export interface Context {
  readonly name: string
  readonly url: string
  readonly token: string
  readonly ca: string | null
}

export interface Contexts {
  readonly current: string | null
  readonly all: readonly Context[]
}

type Env = Readonly<Record<string, string | undefined>>

/** `$XDG_CONFIG_HOME/roost/config.json`. */
export function contextsFile(env: Env = process.env): string {
  const xdg = env['XDG_CONFIG_HOME']
  const home = env['HOME'] ?? homedir()
  return join(xdg !== undefined && xdg !== '' ? xdg : join(home, '.config'), 'roost', 'config.json')
}

export function readContexts(env: Env = process.env): Contexts {
  const path = contextsFile(env)
  if (!existsSync(path)) return { current: null, all: [] }
  try {
    const file = JSON.parse(readFileSync(path, 'utf8'))
    const all = Object.entries(file.contexts ?? {}).map(([name, value]) => {
      const { url, token, ca } = value as Partial<Context>
      if (typeof url !== 'string' || typeof token !== 'string')
        throw new Error(`the context "${name}" has no url or no token`)
      return { name, url, token, ca: typeof ca === 'string' ? ca : null }
    })
    return { current: typeof file.current === 'string' ? file.current : null, all }
  } catch (cause) {
    throw new Failure(`${path} can't be read`, {
      why: cause instanceof Error ? cause.message : String(cause),
      fix: `remove it and log in again: roost auth login URL`,
      cause,
    })
  }
}

/** Adds or replaces a context and makes it the current one. The file is its owner's alone: it holds tokens. */
export function saveContext(context: Context, env: Env = process.env): void {
  const { all } = readContexts(env)
  write(env, context.name, [...all.filter(({ name }) => name !== context.name), context])
}

/** Throws, with what was perhaps meant, when nobody has logged in under this name. */
export function knownContext(name: string, env: Env = process.env): Context {
  const { all } = readContexts(env)
  const found = all.find((one) => one.name === name)
  if (found !== undefined) return found
  const near = nearest(name, all, (one) => one.name)
  throw usage(`there is no context "${name}"${near === null ? '' : `: there is "${near.name}"`}`, [
    'roost context list',
    `roost auth login URL --name ${name}`,
  ])
}

/** What commands use that are not told otherwise. */
export function switchContext(name: string, env: Env = process.env): void {
  write(env, name, readContexts(env).all)
}

/** Forgets a context. The current one, when it goes, is followed by the one that was saved last. */
export function removeContext(name: string, env: Env = process.env): boolean {
  const { current, all } = readContexts(env)
  const left = all.filter((context) => context.name !== name)
  if (left.length === all.length) return false
  write(env, current === name ? (left.at(-1)?.name ?? null) : current, left)
  return true
}

function write(env: Env, current: string | null, all: readonly Context[]): void {
  const path = contextsFile(env)
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  const contexts = Object.fromEntries(
    all.map(({ name, url, token, ca }) => [name, { url, token, ca }]),
  )
  const draft = `${path}.${process.pid}`
  writeFileSync(draft, `${JSON.stringify({ version: 1, current, contexts }, null, 2)}\n`, {
    mode: 0o600,
  })
  chmodSync(draft, 0o600)
  renameSync(draft, path)
}
