import type { MachineConfigInput } from '@roost/api'
import type { EnvFrom, MachineFile, MachineProcess, MachineSecret } from '@roost/core'
import {
  absolutePath,
  invalid,
  quote,
  refuseMore,
  refuseTwice,
  variableName,
} from './config-rules.ts'

type FilesInput = NonNullable<MachineConfigInput['files']>
type ProcessInput = NonNullable<MachineConfigInput['processes']>[number]

const PROCESSES_MAX = 20
const FILES_MAX = 100
/** They lie in every record of the machine, which every change of it sends anew. */
const FILE_CHARS_MAX = 1_000_000
const MODE_MAX = 0o7777
const LIST_MAX = 200

export function filesOf(input: FilesInput, path: string): MachineFile[] {
  refuseMore(input, FILES_MAX, path)
  const chars = input.reduce((sum, { raw_value }) => sum + (raw_value?.length ?? 0), 0)
  if (chars > FILE_CHARS_MAX)
    throw invalid(
      path,
      `together they have ${chars} characters in base64, at most ${FILE_CHARS_MAX} may be`,
    )
  const files = input.map((file, n) => fileOf(file, `${path}[${n}]`))
  refuseTwice(
    files.map(({ guest_path }) => guest_path),
    (n) => `${path}[${n}].guest_path`,
  )
  return files
}

function fileOf(input: FilesInput[number], path: string): MachineFile {
  const { raw_value, secret_name, image_config, mode } = input
  const guest_path = absolutePath(input.guest_path, `${path}.guest_path`)
  // An empty file is one too: its content is there, but it is empty.
  const contents = [typeof raw_value === 'string', Boolean(secret_name), Boolean(image_config)]
  const named = secret_name || image_config
  if (
    contents.filter(Boolean).length !== 1 &&
    !(named && raw_value === '' && !(secret_name && image_config))
  )
    throw invalid(path, 'needs exactly one of raw_value, secret_name and image_config')
  return {
    guest_path,
    ...(secret_name
      ? { secret_name: variableName(secret_name, `${path}.secret_name`) }
      : image_config
        ? { image_config }
        : { raw_value: base64(raw_value ?? '', `${path}.raw_value`) }),
    ...(mode ? { mode: modeOf(mode, `${path}.mode`) } : {}),
  }
}

function modeOf(mode: number, path: string): number {
  if (mode > 0 && mode <= MODE_MAX) return mode
  throw invalid(path, `${mode} is no mode of chmod, a number up to ${MODE_MAX} (07777)`)
}

function base64(value: string, path: string): string {
  if (/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(value)) return value
  throw invalid(path, 'is not base64')
}

export function processesOf(input: readonly ProcessInput[], path: string): MachineProcess[] {
  refuseMore(input, PROCESSES_MAX, path)
  return input.map((one, n) => {
    const at = `${path}[${n}]`
    return {
      ...programOf(one, at),
      ...(one.env && Object.keys(one.env).length > 0 ? { env: one.env } : {}),
      ...secretsOf(one.secrets, `${at}.secrets`),
      ...(one.ignore_app_secrets ? { ignore_app_secrets: true } : {}),
      ...(one.env_from?.length ? { env_from: envFromOf(one.env_from, `${at}.env_from`) } : {}),
    }
  })
}

/** What to run, and as whom. */
export function programOf(
  input: Pick<ProcessInput, 'exec' | 'entrypoint' | 'cmd' | 'user'>,
  path: string,
): Pick<MachineProcess, 'exec' | 'entrypoint' | 'cmd' | 'user'> {
  const { exec, entrypoint, cmd, user } = input
  if (user && !/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,63})?$/.test(user))
    throw invalid(`${path}.user`, `${quote(user)} is no user, such as app, 1000 or app:www-data`)
  return {
    ...(exec?.length ? { exec } : {}),
    ...(entrypoint?.length ? { entrypoint } : {}),
    ...(cmd?.length ? { cmd } : {}),
    ...(user ? { user } : {}),
  }
}

/** An empty list is what clients written in Go send for none: it gets all of them. */
export function secretsOf(
  input: ProcessInput['secrets'],
  path: string,
): { readonly secrets?: readonly MachineSecret[] } {
  if (!input?.length) return {}
  refuseMore(input, LIST_MAX, path)
  const secrets = input.map(({ env_var, name }, n) => ({
    env_var: variableName(env_var, `${path}[${n}].env_var`),
    name: variableName(name || env_var, `${path}[${n}].name`),
  }))
  refuseTwice(
    secrets.map(({ env_var }) => env_var),
    (n) => `${path}[${n}].env_var`,
  )
  return { secrets }
}

export function envFromOf(input: NonNullable<ProcessInput['env_from']>, path: string): EnvFrom[] {
  refuseMore(input, LIST_MAX, path)
  const all = input.map(({ env_var, field_ref }, n) => ({
    env_var: variableName(env_var, `${path}[${n}].env_var`),
    field_ref,
  }))
  refuseTwice(
    all.map(({ env_var }) => env_var),
    (n) => `${path}[${n}].env_var`,
  )
  return all
}
