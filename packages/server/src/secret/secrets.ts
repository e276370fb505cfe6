import { PlatformError } from '@roost/base'
import type { AppName, Host, Instant, MachineId, SecretVersions } from '@roost/core'
import { newSecretVersion, secretVersions } from '../store/secret-versions.ts'
import type { Reader, Tx } from '../store/store.ts'
import type { MasterKey } from './master-key.ts'
import { sealSecrets } from './seal.ts'

export interface SecretEntry {
  readonly name: string
  readonly digest: string
  readonly createdAt: Instant
  readonly updatedAt: Instant
}

/** Secrets of apps: sealed in the store, and readable by nobody but the hosts that run the app's machines. */
export interface Secrets {
  list(reader: Reader, app: AppName): Promise<readonly SecretEntry[]>
  /** `null` removes. True when something is different now. */
  change(
    tx: Tx,
    app: AppName,
    values: Readonly<Record<string, string | null>>,
    now: Instant,
  ): Promise<boolean>
  /**
   * Secrets of an app as `Assignment.sealedSecrets`, for one machine on one host; null when there are none. These
   * versions, or those that were set last. Throws `conflict` when one of them has been destroyed.
   */
  sealForHost(
    reader: Reader,
    app: AppName,
    host: Pick<Host, 'sealingKey'>,
    machine: MachineId,
    versions?: SecretVersions,
  ): Promise<string | null>
}

const SECRETS_MAX = 500
/** One environment must fit what the kernel gives a program, 2 MB, with room for everything else. */
const BYTES_MAX = 1_000_000

export function createSecrets(key: MasterKey): Secrets {
  const context = (app: string, name: string) => `${app}/${name}`

  async function open(
    reader: Reader,
    app: AppName,
    versions: SecretVersions,
  ): Promise<Map<string, string>> {
    const names = Object.keys(versions)
    if (names.length === 0) return new Map()
    const rows = await reader.db
      .selectFrom('secret_versions')
      .select(['name', 'version', 'sealed'])
      .where('app', '=', app)
      .execute()
    const sealed = new Map(rows.map((row) => [`${row.name}@${row.version}`, row.sealed]))
    return new Map(
      names.map((name) => {
        const text = sealed.get(`${name}@${versions[name]}`)
        if (text === undefined)
          throw new PlatformError(
            'conflict',
            `the value that secret ${name} of ${app} had has been destroyed`,
          )
        return [name, key.open(text, context(app, name))]
      }),
    )
  }

  return {
    async list(reader, app) {
      const rows = await reader.db
        .selectFrom('secrets')
        .innerJoin('secret_versions as v', (join) =>
          join
            .onRef('v.app', '=', 'secrets.app')
            .onRef('v.name', '=', 'secrets.name')
            .onRef('v.version', '=', 'secrets.version'),
        )
        .select(['secrets.name', 'v.digest', 'secrets.created_at', 'secrets.updated_at'])
        .where('secrets.app', '=', app)
        .orderBy('secrets.name')
        .execute()
      return rows.map((r) => ({
        name: r.name,
        digest: r.digest,
        createdAt: r.created_at,
        updatedAt: r.updated_at,
      }))
    },

    async change(tx, app, values, now) {
      for (const name of Object.keys(values)) refuseName(name)
      const before = await open(tx, app, await secretVersions(tx, app))
      const after = new Map(before)
      for (const [name, value] of Object.entries(values)) {
        if (value === null) after.delete(name)
        else after.set(name, value)
      }
      refuseSize(after)
      let changed = false
      for (const [name, value] of Object.entries(values)) {
        if (value === null) {
          if (!before.has(name)) continue
          await tx.db
            .deleteFrom('secrets')
            .where('app', '=', app)
            .where('name', '=', name)
            .execute()
        } else {
          if (before.get(name) === value) continue
          const sealed = key.seal(value, context(app, name))
          const digest = key.digest(value, context(app, name))
          const version = await newSecretVersion(tx)
          await tx.db
            .insertInto('secret_versions')
            .values({ app, name, version, sealed, digest, created_at: now })
            .execute()
          await tx.db
            .insertInto('secrets')
            .values({ app, name, version, created_at: now, updated_at: now })
            .onConflict((conflict) =>
              conflict.columns(['app', 'name']).doUpdateSet({ version, updated_at: now }),
            )
            .execute()
        }
        changed = true
      }
      return changed
    },

    async sealForHost(reader, app, host, machine, versions) {
      const values = await open(reader, app, versions ?? (await secretVersions(reader, app)))
      if (values.size === 0) return null
      return sealSecrets(host.sealingKey, machine, Object.fromEntries(values))
    },
  }
}

function refuseName(name: string): void {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || name.length > 255)
    throw new PlatformError(
      'invalid',
      `${JSON.stringify(name)} can't be the name of a secret: it must be the name of a shell variable (letters, digits and _, no digit first)`,
    )
  if (name.startsWith('FLY_'))
    throw new PlatformError(
      'invalid',
      `${name} can't be the name of a secret: names that begin with FLY_ are set by Roost`,
    )
}

function refuseSize(values: ReadonlyMap<string, string>): void {
  const entries = [...values]
  if (entries.length > SECRETS_MAX)
    throw new PlatformError('invalid', `an app may have at most ${SECRETS_MAX} secrets`)
  const nul = entries.find(([, value]) => value.includes('\0'))
  if (nul)
    throw new PlatformError('invalid', `${nul[0]}: an environment variable can't hold a NUL byte`)
  const bytes = entries.reduce(
    (sum, [n, v]) => sum + Buffer.byteLength(n) + Buffer.byteLength(v),
    0,
  )
  if (bytes > BYTES_MAX)
    throw new PlatformError(
      'invalid',
      `the secrets of an app may have at most ${BYTES_MAX} bytes together; these have ${bytes}`,
    )
}
