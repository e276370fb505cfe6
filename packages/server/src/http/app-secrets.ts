import { PlatformError } from '@roost/base'
import type { AppName } from '@roost/core'
import type { Deps } from '../deps.ts'
import type { SecretEntry } from '../secret/secrets.ts'
import {
  forgetSecretVersions,
  newestSecretVersion,
  newSecretVersion,
} from '../store/secret-versions.ts'
import type { Reader } from '../store/store.ts'
import { appOrThrow } from './apps.ts'
import type { Handlers } from './handler.ts'

type AppSecretRoutes =
  | 'listAppSecrets'
  | 'getAppSecret'
  | 'setAppSecret'
  | 'deleteAppSecret'
  | 'changeAppSecrets'

/** Secrets as the Machines API has them: only written down. A release or an update of a machine brings them. */
export function appSecretHandlers(
  deps: Pick<Deps, 'store' | 'clock' | 'secrets'>,
): Pick<Handlers, AppSecretRoutes> {
  const { store, clock, secrets } = deps

  const change = (app: string, values: Readonly<Record<string, string | null>>) =>
    store.transaction(async (tx) => {
      const { name } = await appOrThrow(tx, app)
      const missing = await missingOf(tx, name, values)
      await secrets.change(tx, name, values, clock.now())
      // Also of a removal, and of what said what it said already: who asked may ask for this version.
      const version = await newSecretVersion(tx)
      await forgetSecretVersions(tx, name)
      return { version, missing, secrets: (await secrets.list(tx, name)).map(entryReply) }
    })

  const missingOf = async (
    reader: Reader,
    app: AppName,
    values: Readonly<Record<string, string | null>>,
  ) => {
    const known = new Set((await secrets.list(reader, app)).map(({ name }) => name))
    return Object.keys(values).filter((name) => values[name] === null && !known.has(name))
  }

  const list = (
    app: string,
    query: { version?: number | undefined; show_secrets?: string | undefined },
  ) =>
    store.read(async (reader) => {
      const { name } = await appOrThrow(reader, app)
      if (query.show_secrets === 'true')
        throw new PlatformError(
          'unsupported',
          'show_secrets: nobody is shown the value of a secret; the app finds it in its environment',
        )
      await refuseLaterSecrets(reader, query.version ?? null, 'version')
      return (await secrets.list(reader, name)).map(entryReply)
    })

  return {
    listAppSecrets: async ({ params, query }) => ({ secrets: await list(params.app, query) }),

    getAppSecret: async ({ params, query }) => {
      const found = (await list(params.app, query)).find(({ name }) => name === params.name)
      if (found === undefined) throw notFound(params.name)
      return found
    },

    setAppSecret: async ({ params, body }) => {
      const { version, secrets } = await change(params.app, { [params.name]: body.value })
      const found = secrets.find(({ name }) => name === params.name)
      if (found === undefined) throw new PlatformError('internal', 'a secret vanished')
      return { ...found, version }
    },

    deleteAppSecret: async ({ params }) => {
      const { version, missing } = await change(params.app, { [params.name]: null })
      if (missing.length > 0) throw notFound(params.name)
      return { version }
    },

    changeAppSecrets: async ({ params, body }) => {
      const { version, secrets } = await change(params.app, body.values)
      return { version, secrets }
    },
  }
}

/**
 * Who names a version has seen it, so that this server must have it, too. It has not where its store was put back from an
 * older copy: then nobody is given a machine without the secrets that he has just set.
 */
export async function refuseLaterSecrets(
  reader: Reader,
  least: number | null,
  key: string,
): Promise<void> {
  if (!least) return
  const newest = await newestSecretVersion(reader)
  if (newest >= least) return
  throw new PlatformError(
    'precondition_failed',
    `${key}: the secrets are at version ${newest}, not at ${least} yet: set them again`,
  )
}

function entryReply(entry: SecretEntry) {
  return {
    name: entry.name,
    digest: entry.digest,
    created_at: new Date(entry.createdAt).toISOString(),
    updated_at: new Date(entry.updatedAt).toISOString(),
  }
}

function notFound(name: string): PlatformError {
  return new PlatformError('not_found', `secret ${name} not found`)
}
