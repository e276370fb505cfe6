declare const brand: unique symbol

/** A string that is only of one kind: a MachineId is never passed where a HostId is wanted. */
export type Brand<Base, Name extends string> = Base & { readonly [brand]: Name }

/** 14 lower-case hex characters, as at Fly. Fixed length: some runtimes resolve ids by prefix. */
export type MachineId = Brand<string, 'MachineId'>
/** 14 lower-case hex characters. */
export type HostId = Brand<string, 'HostId'>
/** The first 12 hex characters of the SHA-256 of a token: who has the token can tell it, nobody else can tell the token. */
export type TokenId = Brand<string, 'TokenId'>
/** App names are unique in an installation and serve as ids: `^[a-z0-9][a-z0-9-]{0,62}$`, no trailing dash. */
export type AppName = Brand<string, 'AppName'>
/** Lower-case region code, such as `ams`: `^[a-z][a-z0-9]{1,11}$`. */
export type RegionCode = Brand<string, 'RegionCode'>
/** A ULID, new for each version of a machine (Fly's `instance_id`). */
export type InstanceId = Brand<string, 'InstanceId'>

/** Milliseconds since 1970-01-01 UTC. */
export type Instant = number
/** Grows by one with each change of what is wanted of one machine; a host refuses an older one. */
export type Generation = number
/** Grows with each write to the store that someone must hear of; one sequence per installation. */
export type Revision = number

export function assertNever(value: never): never {
  throw new Error(`unhandled: ${JSON.stringify(value)}`)
}
