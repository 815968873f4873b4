from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JID(_message.Message):
    __slots__ = ("appKey", "name", "domain", "clientResource")
    APPKEY_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    CLIENTRESOURCE_FIELD_NUMBER: _ClassVar[int]
    appKey: str
    name: str
    domain: str
    clientResource: str
    def __init__(self, appKey: _Optional[str] = ..., name: _Optional[str] = ..., domain: _Optional[str] = ..., clientResource: _Optional[str] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("errorCode", "reason")
    ERRORCODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    errorCode: int
    reason: str
    def __init__(self, errorCode: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class MSync(_message.Message):
    __slots__ = ("version", "guid", "auth", "command", "payload")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    GUID_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    version: int
    guid: JID
    auth: str
    command: int
    payload: bytes
    def __init__(self, version: _Optional[int] = ..., guid: _Optional[_Union[JID, _Mapping]] = ..., auth: _Optional[str] = ..., command: _Optional[int] = ..., payload: _Optional[bytes] = ...) -> None: ...

class Provision(_message.Message):
    __slots__ = ("osType", "version", "status", "deviceName", "resource", "auth", "actionVersion", "authToken", "sessionId")
    OSTYPE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    DEVICENAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    AUTH_FIELD_NUMBER: _ClassVar[int]
    ACTIONVERSION_FIELD_NUMBER: _ClassVar[int]
    AUTHTOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSIONID_FIELD_NUMBER: _ClassVar[int]
    osType: int
    version: str
    status: Status
    deviceName: str
    resource: str
    auth: str
    actionVersion: str
    authToken: str
    sessionId: str
    def __init__(self, osType: _Optional[int] = ..., version: _Optional[str] = ..., status: _Optional[_Union[Status, _Mapping]] = ..., deviceName: _Optional[str] = ..., resource: _Optional[str] = ..., auth: _Optional[str] = ..., actionVersion: _Optional[str] = ..., authToken: _Optional[str] = ..., sessionId: _Optional[str] = ...) -> None: ...

class MetaQueue(_message.Message):
    __slots__ = ("queue", "n")
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    N_FIELD_NUMBER: _ClassVar[int]
    queue: JID
    n: int
    def __init__(self, queue: _Optional[_Union[JID, _Mapping]] = ..., n: _Optional[int] = ...) -> None: ...

class CommUnreadDL(_message.Message):
    __slots__ = ("status", "unread", "timestamp")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    UNREAD_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    status: Status
    unread: _containers.RepeatedCompositeFieldContainer[MetaQueue]
    timestamp: int
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ..., unread: _Optional[_Iterable[_Union[MetaQueue, _Mapping]]] = ..., timestamp: _Optional[int] = ...) -> None: ...

class Logout(_message.Message):
    __slots__ = ("sessionId", "reason", "status")
    SESSIONID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    sessionId: str
    reason: str
    status: Status
    def __init__(self, sessionId: _Optional[str] = ..., reason: _Optional[str] = ..., status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class CommSyncUL(_message.Message):
    __slots__ = ("meta", "key", "queue")
    META_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    meta: Meta
    key: int
    queue: JID
    def __init__(self, meta: _Optional[_Union[Meta, _Mapping]] = ..., key: _Optional[int] = ..., queue: _Optional[_Union[JID, _Mapping]] = ...) -> None: ...

class CommSyncDL(_message.Message):
    __slots__ = ("status", "metaId", "serverId", "metas", "nextKey", "queue", "isLast", "timestamp")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    METAID_FIELD_NUMBER: _ClassVar[int]
    SERVERID_FIELD_NUMBER: _ClassVar[int]
    METAS_FIELD_NUMBER: _ClassVar[int]
    NEXTKEY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    ISLAST_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    status: Status
    metaId: int
    serverId: int
    metas: _containers.RepeatedScalarFieldContainer[bytes]
    nextKey: int
    queue: bytes
    isLast: bool
    timestamp: int
    def __init__(self, status: _Optional[_Union[Status, _Mapping]] = ..., metaId: _Optional[int] = ..., serverId: _Optional[int] = ..., metas: _Optional[_Iterable[bytes]] = ..., nextKey: _Optional[int] = ..., queue: _Optional[bytes] = ..., isLast: bool = ..., timestamp: _Optional[int] = ...) -> None: ...

class Meta(_message.Message):
    __slots__ = ("id", "sender", "to", "timestamp", "ns", "payload", "routetype", "directedUsers")
    ID_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    NS_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ROUTETYPE_FIELD_NUMBER: _ClassVar[int]
    DIRECTEDUSERS_FIELD_NUMBER: _ClassVar[int]
    id: int
    sender: JID
    to: JID
    timestamp: int
    ns: int
    payload: bytes
    routetype: int
    directedUsers: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., sender: _Optional[_Union[JID, _Mapping]] = ..., to: _Optional[_Union[JID, _Mapping]] = ..., timestamp: _Optional[int] = ..., ns: _Optional[int] = ..., payload: _Optional[bytes] = ..., routetype: _Optional[int] = ..., directedUsers: _Optional[_Iterable[str]] = ...) -> None: ...

class KeyValue(_message.Message):
    __slots__ = ("key", "type", "varintValue", "floatValue", "doubleValue", "stringValue")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    VARINTVALUE_FIELD_NUMBER: _ClassVar[int]
    FLOATVALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLEVALUE_FIELD_NUMBER: _ClassVar[int]
    STRINGVALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    type: int
    varintValue: int
    floatValue: float
    doubleValue: float
    stringValue: str
    def __init__(self, key: _Optional[str] = ..., type: _Optional[int] = ..., varintValue: _Optional[int] = ..., floatValue: _Optional[float] = ..., doubleValue: _Optional[float] = ..., stringValue: _Optional[str] = ...) -> None: ...

class MessageConfig(_message.Message):
    __slots__ = ("allowGroupAck",)
    ALLOWGROUPACK_FIELD_NUMBER: _ClassVar[int]
    allowGroupAck: bool
    def __init__(self, allowGroupAck: bool = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("width", "height")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    width: float
    height: float
    def __init__(self, width: _Optional[float] = ..., height: _Optional[float] = ...) -> None: ...

class Content(_message.Message):
    __slots__ = ("type", "text", "latitude", "longitude", "address", "displayName", "remotePath", "secretKey", "fileLength", "action", "params", "duration", "size", "thumbnailRemotePath", "thumbnailSecretKey", "thumbnailDisplayName", "thumbnailFileLength", "thumbnailSize", "customEvent", "customExts", "buildingName", "subType", "title", "summary", "combineLevel")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LATITUDE_FIELD_NUMBER: _ClassVar[int]
    LONGITUDE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    DISPLAYNAME_FIELD_NUMBER: _ClassVar[int]
    REMOTEPATH_FIELD_NUMBER: _ClassVar[int]
    SECRETKEY_FIELD_NUMBER: _ClassVar[int]
    FILELENGTH_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PARAMS_FIELD_NUMBER: _ClassVar[int]
    DURATION_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILREMOTEPATH_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILSECRETKEY_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILDISPLAYNAME_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILFILELENGTH_FIELD_NUMBER: _ClassVar[int]
    THUMBNAILSIZE_FIELD_NUMBER: _ClassVar[int]
    CUSTOMEVENT_FIELD_NUMBER: _ClassVar[int]
    CUSTOMEXTS_FIELD_NUMBER: _ClassVar[int]
    BUILDINGNAME_FIELD_NUMBER: _ClassVar[int]
    SUBTYPE_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    COMBINELEVEL_FIELD_NUMBER: _ClassVar[int]
    type: int
    text: str
    latitude: float
    longitude: float
    address: str
    displayName: str
    remotePath: str
    secretKey: str
    fileLength: int
    action: str
    params: _containers.RepeatedCompositeFieldContainer[KeyValue]
    duration: int
    size: Size
    thumbnailRemotePath: str
    thumbnailSecretKey: str
    thumbnailDisplayName: str
    thumbnailFileLength: int
    thumbnailSize: Size
    customEvent: str
    customExts: _containers.RepeatedCompositeFieldContainer[KeyValue]
    buildingName: str
    subType: int
    title: str
    summary: str
    combineLevel: int
    def __init__(self, type: _Optional[int] = ..., text: _Optional[str] = ..., latitude: _Optional[float] = ..., longitude: _Optional[float] = ..., address: _Optional[str] = ..., displayName: _Optional[str] = ..., remotePath: _Optional[str] = ..., secretKey: _Optional[str] = ..., fileLength: _Optional[int] = ..., action: _Optional[str] = ..., params: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., duration: _Optional[int] = ..., size: _Optional[_Union[Size, _Mapping]] = ..., thumbnailRemotePath: _Optional[str] = ..., thumbnailSecretKey: _Optional[str] = ..., thumbnailDisplayName: _Optional[str] = ..., thumbnailFileLength: _Optional[int] = ..., thumbnailSize: _Optional[_Union[Size, _Mapping]] = ..., customEvent: _Optional[str] = ..., customExts: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., buildingName: _Optional[str] = ..., subType: _Optional[int] = ..., title: _Optional[str] = ..., summary: _Optional[str] = ..., combineLevel: _Optional[int] = ...) -> None: ...

class MessageBody(_message.Message):
    __slots__ = ("type", "sender", "to", "contents", "ext", "ackMessageId", "msgConfig", "ackContent")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    EXT_FIELD_NUMBER: _ClassVar[int]
    ACKMESSAGEID_FIELD_NUMBER: _ClassVar[int]
    MSGCONFIG_FIELD_NUMBER: _ClassVar[int]
    ACKCONTENT_FIELD_NUMBER: _ClassVar[int]
    type: int
    sender: JID
    to: JID
    contents: _containers.RepeatedCompositeFieldContainer[Content]
    ext: _containers.RepeatedCompositeFieldContainer[KeyValue]
    ackMessageId: int
    msgConfig: MessageConfig
    ackContent: str
    def __init__(self, type: _Optional[int] = ..., sender: _Optional[_Union[JID, _Mapping]] = ..., to: _Optional[_Union[JID, _Mapping]] = ..., contents: _Optional[_Iterable[_Union[Content, _Mapping]]] = ..., ext: _Optional[_Iterable[_Union[KeyValue, _Mapping]]] = ..., ackMessageId: _Optional[int] = ..., msgConfig: _Optional[_Union[MessageConfig, _Mapping]] = ..., ackContent: _Optional[str] = ...) -> None: ...

class StatisticsBody(_message.Message):
    __slots__ = ("operation", "location", "reason")
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    operation: int
    location: str
    reason: str
    def __init__(self, operation: _Optional[int] = ..., location: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
