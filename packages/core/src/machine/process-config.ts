/** A file that is put into a machine or container before its program starts. Exactly one of the three says what is in it. */
export interface MachineFile {
  /** Absolute; its folders are made where they are missing. */
  readonly guest_path: string
  /** The content in base64. */
  readonly raw_value?: string
  /** Name of the app's secret whose value is the content in base64. */
  readonly secret_name?: string
  /** Reference of the image whose OCI image configuration is the content. */
  readonly image_config?: string
  /** As chmod(2) takes it, 0–0o7777. Default 0o644. */
  readonly mode?: number
}

/** One of several programs of a machine. */
export interface MachineProcess {
  /** Replaces entrypoint and cmd of the image together. */
  readonly exec?: readonly string[]
  readonly entrypoint?: readonly string[]
  readonly cmd?: readonly string[]
  readonly user?: string
  /** Goes before the machine's. */
  readonly env?: Readonly<Record<string, string>>
  /** The only secrets that it gets; absent: all of the app. */
  readonly secrets?: readonly MachineSecret[]
  /** It gets none but `secrets`. */
  readonly ignore_app_secrets?: boolean
  readonly env_from?: readonly EnvFrom[]
}

/** A secret of the app as a variable of the environment. */
export interface MachineSecret {
  readonly env_var: string
  /** The app's name of it. */
  readonly name: string
}

/** A field of the machine as a variable of the environment. */
export interface EnvFrom {
  readonly env_var: string
  readonly field_ref: EnvField
}

export type EnvField = 'id' | 'version' | 'app_name' | 'private_ip' | 'region' | 'image'
